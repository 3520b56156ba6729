-- children.lua takes note of dead sets that belong to wildcards: a proxy marks a backend under the requested name. It
-- leaves a name alone that has a list of its own, or whose longest wildcard with a list is not registered here.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  JSON: {names: [[requested host, vhosts that can answer for it, first match first...]...],
--          wildcards: {wildcard: {shard, term}}: those of the caller, done: true once all dead sets were seen}
--
-- The dead sets of a wildcard that is in the set rewritten are deleted, because they may hold positions of before. The
-- others are added to marked:<wildcard>, and deleted when the list is rewritten. done removes the caller's wildcards
-- from rewritten. Returns how many dead sets were deleted.
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
