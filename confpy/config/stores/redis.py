"""Redis: its settings, its own tool's variable, its default node."""

from __future__ import annotations

from confpy.config.kinds import COUNT, TEXT
from confpy.config.options import StoreOptions, Variable, rows, setting

GROUP = "Redis"
"""The heading of its settings."""


@rows
class RedisSettings:
    """Settings of Redis alone."""

    separator: str = setting(
        GROUP, "/", TEXT._replace(metavar="TEXT"), "What stands between the parts of a key in Redis, such as a colon."
    )
    db: int = setting(
        GROUP, 0, COUNT, "The number of the database to read.", unset="that of the node's address, else 0"
    )


REDIS = StoreOptions(
    "redis",
    "confpy.stores.redis.store:RedisStore",
    nodes=("127.0.0.1",),
    port=6379,
    variables=((Variable("REDISCLI_AUTH", "password"),),),
    extra="redis",
    registrar="confpy.stores.redis.registrar:RedisRegistrar",
)
