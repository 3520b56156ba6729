-- passed.lua removes what proxies marked of an instance that has just passed a probe.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  the instance's url
-- ARGV[3..] its vhosts
for n = 3, #ARGV do vhost.passed(ARGV[n], ARGV[2]) end
return 1
