-- passed.lua removes the marks of proxies on the backends of an instance that has just passed a probe.
--
-- ARGV[1]  settings, see settings.lua
-- ARGV[2]  the instance's url
-- ARGV[3]  the shard of the instance
-- ARGV[4]  the term under which the caller owns the shard, '' if the caller is no worker
-- ARGV[5..] the instance's vhosts
--
-- Returns 1, or 0 without a write if the shard has another term.
if ARGV[4] ~= '' and not vhost.owned(ARGV[3], ARGV[4]) then return 0 end
for n = 5, #ARGV do vhost.passed(ARGV[n], ARGV[2]) end
return 1
