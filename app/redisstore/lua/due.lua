-- due.lua makes the next probe of an instance due at once.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  instance id
--
-- Returns 1, or 0 when it is due already or was made due so recently that the probe may
-- still be under way.
return probe_now(ARGV[2]) and 1 or 0
