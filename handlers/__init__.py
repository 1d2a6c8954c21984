"""What a message means: one async function a kind, pure rules beside them, repositories as interfaces."""
