-- What a script finds inside Redis: Lua 5.1 without the parts the sandbox takes
-- away. The time is an argument, so os is refused too.
std = "lua51+min"
read_globals = { "redis", "KEYS", "ARGV", "unpack", "cjson" }
not_globals = { "os", "io", "print", "require", "module", "package", "dofile", "loadfile" }
max_line_length = false

-- settings.lua, frontend.lua and vhost.lua stand in front of the scripts that use them. These are the names that they
-- define.
files["app/redisstore/lua"] = { read_globals = { "frontend", "vhost", "c", "vhosts", "settling", "kept", "record", "revision", "beat" } }
files["app/redisstore/lua/vhost.lua"] = { ignore = { "211", "241" } }
files["app/redisstore/lua/settings.lua"] = { ignore = { "211" } }
