-- assert.lua notes that an instance, which was not written since it was read, has reported
-- by itself, and what it reported.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  instance id
-- ARGV[3]  its revision
-- ARGV[4]  record of the report, '' for none
-- ARGV[5]  the instance's url
-- ARGV[6..] its vhosts, when it reported well
--
-- Returns 1, or 0 when the revision is another.
local id = ARGV[2]
if revision(id) ~= tonumber(ARGV[3]) then return 0 end

beat(id)
if ARGV[4] ~= '' then record(id, ARGV[4]) end
for n = 6, #ARGV do vhost.passed(ARGV[n], ARGV[5]) end
return 1
