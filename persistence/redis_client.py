"""Connections to Redis, or to a Redis Cluster, that never hold a batch up for long: nothing rests on Redis."""

from typing import Any, Final

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

CONNECT_TIMEOUT_S: Final = 0.5
CALL_TIMEOUT_S: Final = 0.5

RedisClient = Redis | RedisCluster


def create_redis(url: str) -> RedisClient:
    """Make a client; connects only when first used, and repeats nothing by itself.

    `redis+cluster://` (with TLS `rediss+cluster://`) names any node of a cluster.
    """
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": CALL_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # every server speaks it, and its connections are made in fewer steps
    }
    scheme, _, rest = url.partition("://")
    if scheme.endswith("+cluster"):
        return RedisCluster.from_url(f"{scheme.removesuffix('+cluster')}://{rest}", **options)
    return Redis.from_url(url, **options)
