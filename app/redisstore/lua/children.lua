-- children.lua records dead sets that belong to wildcards: a proxy stores a mark under the requested host. It skips a
-- host that has a frontend of its own, and a host whose longest wildcard with a frontend is not registered.
--
-- ARGV[1]  settings, see settings.lua
-- ARGV[2]  JSON: {names: [[requested host, vhosts that can answer for it, first match first...]...],
--          wildcards: {wildcard: {shard, term}} of the caller, done: true in the last call of a scan}
--
-- If a wildcard is in the set rewritten, its dead sets are deleted, because they may hold positions of an earlier list.
-- The other dead sets are added to marked:<wildcard>; the next rewrite of the list deletes them. done removes the
-- caller's wildcards from rewritten. Returns the number of deleted dead sets.
local arg, deleted = cjson.decode(ARGV[2]), 0

local function mine(host)
  local w = arg.wildcards[host]
  return w and (not w.term or vhost.owned(w.shard, w.term))
end

for _, name in ipairs(arg.names or {}) do
  local requested = name[1]
  local dead = vhost.dead_of(requested)
  for n = 2, #name do
    local host = name[n]
    if frontend.keytype(vhost.list_of(host)) == 'list' then
      if host ~= requested and mine(host) and redis.call('EXISTS', c.prefix .. 'vhost:' .. host) == 1 and
        frontend.keytype(dead) == 'set' then
        local marked = c.prefix .. 'marked:' .. host
        if redis.call('SISMEMBER', vhost.rewritten, host) == 1 then
          redis.call('DEL', dead)
          redis.call('SREM', marked, requested)
          deleted = deleted + 1
        else
          redis.call('SADD', marked, requested)
          vhost.reopen(host, requested)
        end
      end
      break
    end
  end
end
if arg.done then
  for host in pairs(arg.wildcards) do
    if mine(host) then redis.call('SREM', vhost.rewritten, host) end
  end
end
return deleted
