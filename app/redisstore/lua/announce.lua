-- announce.lua takes note of a backend that a proxy has marked: a mark that hit
-- another backend than the one that failed is taken back, and the instance that
-- did fail is due for a probe at once, at most once a second.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  the host that was asked for
-- ARGV[3]  the failing backend, canonical
-- ARGV[4]  the marked slot, from 0
-- ARGV[5..] the vhosts that can answer for the host, first match first
--
-- Returns {1 when the mark was taken back, id of the instance that is due now or ''}.
local requested, url, slot = ARGV[2], ARGV[3], ARGV[4]
local dead = c.hipache .. 'dead:' .. requested
local taken, id = 0, ''

local function canonical(entry)
  return entry and string.gsub(string.lower(entry), '/+$', '')
end

for i = 5, #ARGV do
  local list = c.hipache .. 'frontend:' .. ARGV[i]
  if frontend.keytype(list) == 'list' then
    if ARGV[i] ~= requested then redis.call('SADD', c.prefix .. 'marked:' .. ARGV[i], requested) end
    if canonical(redis.call('LINDEX', list, slot + 1)) ~= url and frontend.keytype(dead) == 'set' then
      taken = redis.call('SREM', dead, slot)
    end
    local member = redis.call('HGET', c.prefix .. 'vhost:' .. ARGV[i], url)
    id = member and string.match(member, '^%d+ %d %d+ (.*)$') or ''
    break
  end
end

if id ~= '' then
  local at = redis.call('ZSCORE', c.prefix .. 'due', id)
  if at and tonumber(at) > c.now and redis.call('SET', c.prefix .. 'early:' .. id, '1', 'NX', 'PX', 1000) then
    redis.call('ZADD', c.prefix .. 'due', c.now, id)
    redis.call('PUBLISH', c.prefix .. 'wake', '')
  else
    id = ''
  end
end
return {taken, id}
