-- project.lua has the lists of vhosts follow their members once more: after a
-- settle time, or because somebody else may have written them.
--
-- ARGV[1]   settings, see vhost.lua
-- ARGV[2..] vhosts
--
-- Returns {number of lists written, repaired...}.
local wrote = 0
for i = 2, #ARGV do
  if vhost.touch(ARGV[i]) then wrote = wrote + 1 end
end
return {wrote, unpack(vhost.repaired)}
