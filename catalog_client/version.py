"""What this client is called."""

from typing import Final

VERSION: Final = "0.2"
