-- assert.lua stores the heartbeat of an instance, and its result, if the instance is still at the given revision.
--
-- ARGV[1]  settings, see settings.lua
-- ARGV[2]  instance id
-- ARGV[3]  its revision
-- ARGV[4]  the packed result, '' for none
-- ARGV[5]  the instance's url
-- ARGV[6..] the instance's vhosts if the result is a pass
--
-- Returns 1, or 0 if the instance has another revision.
local id = ARGV[2]
if revision(id) ~= tonumber(ARGV[3]) then return 0 end

beat(id)
if ARGV[4] ~= '' then record(id, ARGV[4]) end
for n = 6, #ARGV do vhost.passed(ARGV[n], ARGV[5]) end
return 1
