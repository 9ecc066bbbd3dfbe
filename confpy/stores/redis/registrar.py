"""Keys are put into Redis with a time to live, and renewed and removed by scripts that compare who has put them.

Redis has no sessions: a second key, ``confpy:registration:`` and the name of the first, says who has put that, and
lives as long. Scripts are atomic (https://redis.io/docs/latest/develop/interact/programmability/eval-intro/).
"""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING, Any

from confpy.errors import StoreError, UsageError
from confpy.registration.values import Entry, Standing
from confpy.stores.redis.client import RedisClient, Session, connect
from confpy.stores.redis.contents import Names
from confpy.stores.redis.store import RedisStore

if TYPE_CHECKING:
    from confpy.config.settings import Settings

OWNERS = "confpy:registration:"
"""What the names begin with of the keys that say who has put a key."""
_FREE, _HELD, _TAKEN, _OTHER_TYPE = 0, 1, 2, 3
_STANDINGS: dict[int, Standing] = {_FREE: "free", _HELD: "held", _TAKEN: "taken"}

# KEYS: the key, its owner. ARGV: the value, our token (empty: the value tells what is ours), milliseconds to live.
_LOOK = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'string' then return 3 end
local standing = 2
if kind == 'none' then standing = 0
elseif redis.call('GET', KEYS[1]) == ARGV[1] then
  if ARGV[2] == '' or redis.call('GET', KEYS[2]) == ARGV[2] then standing = 1 end
end
"""
_CLAIM = (
    _LOOK
    + """
if standing == 2 and ARGV[4] == '0' then return 2 end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
end
return 1
"""
)
_REFRESH = (
    _LOOK
    + """
if standing == 1 and ARGV[3] ~= '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return standing
"""
)
_RELEASE = (
    _LOOK
    + """
if standing == 1 then redis.call('DEL', KEYS[1]) end
if ARGV[2] ~= '' and redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[2]) end
if standing == 1 then return 0 end
return standing
"""
)
_REMOVE = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'string' then return 3 end
if kind == 'none' or (ARGV[2] == '1' and redis.call('GET', KEYS[1]) ~= ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""


class RedisRegistrar:
    """One entry in Redis, behind ``confpy.registration.values.Registrar``."""

    capabilities = RedisStore.capabilities

    def __init__(self, client: RedisClient, name: str, entry: Entry) -> None:
        self._client = client
        self._entry = entry
        self._name = name.encode("utf-8", "surrogateescape")
        self._token = "" if entry.ttl is None else token_hex(8)
        self._ttl = "" if entry.ttl is None else str(round(entry.ttl * 1000))

    @property
    def node(self) -> str:
        return self._client.endpoints.node

    @classmethod
    def open(cls, settings: Settings, entry: Entry) -> RedisRegistrar:
        """Return the registrar of an entry. No traffic yet; raises ``UsageError``."""
        if not settings.separator:
            raise UsageError("the separator is empty", hint="leave it out, or give what stands between parts of keys")
        return cls(connect(settings), Names(settings.separator).name(entry.key), entry)

    def claim(self, *, takes_over: bool) -> Standing:
        return self._stand(_CLAIM, "1" if takes_over else "0")

    def refresh(self) -> Standing:
        return self._stand(_REFRESH)

    def release(self) -> Standing:
        return self._stand(_RELEASE)

    def remove(self, expected: bytes | None) -> bool:
        return self._run(_REMOVE, 1, self._name, expected or b"", "0" if expected is None else "1") == 1

    def close(self) -> None:
        self._client.close()

    def _stand(self, script: str, *more: str) -> Standing:
        owner = OWNERS.encode() + self._name
        names = (2, self._name, owner)
        return _STANDINGS[self._run(script, *names, self._entry.value, self._token, self._ttl, *more)]

    def _run(self, script: str, *arguments: str | bytes | int) -> int:
        def run(session: Session) -> Any:
            return session.ask("EVAL", script, *arguments)

        try:
            reply = self._client.call(run)
        except StoreError as error:
            if "permission" in error.message:
                error.hint = f"the user needs EVAL, and to write the key and those that begin with {OWNERS}"
            raise
        if reply == _OTHER_TYPE:
            hint = "name another key, or remove that one"
            raise StoreError("redis: the key is there, and is not a string", node=self.node, hint=hint)
        return int(reply)
