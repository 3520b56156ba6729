-- children.lua takes note of dead sets that belong to wildcards: a proxy marks a backend
-- under the requested name. A name with a list of its own is left alone, and so is a name
-- whose longest wildcard with a list nobody registered.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  JSON: {names: [[requested host, vhosts that can answer for it, first match
--          first...]...], rewritten: {wildcard: true}}
--
-- The dead sets of a rewritten wildcard are deleted, because their marks may be positions
-- of before; those of the others are added to marked:, and deleted with the next rewrite.
-- Returns how many were deleted.
local arg, deleted = cjson.decode(ARGV[2]), 0
for _, name in ipairs(arg.names) do
  local requested = name[1]
  local dead = vhost.dead_of(requested)
  for n = 2, #name do
    local host = name[n]
    if frontend.keytype(vhost.list_of(host)) == 'list' then
      if host ~= requested and redis.call('EXISTS', c.prefix .. 'vhost:' .. host) == 1 and frontend.keytype(dead) == 'set' then
        local marked = c.prefix .. 'marked:' .. host
        if arg.rewritten[host] then
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
return deleted
