-- project.lua has the lists of vhosts follow their members once more: after a
-- settle time, or because somebody else may have written them.
--
-- ARGV[1]   settings, see vhost.lua
-- ARGV[2..] vhosts
--
-- Returns {lists written, how many of them no settle time accounts for, wildcards whose
-- positions changed apart by spaces, repaired...}.
local wrote, mended = 0, 0
for i = 2, #ARGV do
  local due = tonumber(redis.call('ZSCORE', settling, ARGV[i]) or c.now + 1)
  if vhost.touch(ARGV[i]) then
    wrote = wrote + 1
    if due > c.now then mended = mended + 1 end
  end
end
return {wrote, mended, table.concat(vhost.rewritten, ' '), unpack(vhost.repaired)}
