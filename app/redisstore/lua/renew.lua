-- renew.lua moves the deadline of an instance that nobody has written since it was
-- read, and notes the report that was the reason.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  instance id
-- ARGV[3]  its revision
-- ARGV[4]  deadline, ms; 0: it has none
-- ARGV[5]  record of the report, '' for none
-- ARGV[6]  the instance's url
-- ARGV[7..] its vhosts, when it reported well
--
-- Returns 1, or 0 when the revision is another.
local id, deadline = ARGV[2], tonumber(ARGV[4])
if revision(id) ~= tonumber(ARGV[3]) then return 0 end

if deadline > 0 then
  local away = tonumber(redis.call('HGET', c.prefix .. 'ticks', 'away') or 0)
  redis.call('ZADD', c.prefix .. 'deadlines', deadline - away, id)
end
if ARGV[5] ~= '' then record(id, ARGV[5]) end
for n = 7, #ARGV do vhost.passed(ARGV[n], ARGV[6]) end
return 1
