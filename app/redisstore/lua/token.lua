-- token.lua adds or removes a token, and appends an event.
--
-- KEYS[1]  tokens  hash: token id -> document
-- KEYS[2]  events  stream
-- ARGV[1]  token id
-- ARGV[2]  document; '' removes the token
-- ARGV[3]  largest number of tokens
-- ARGV[4]  event, JSON
-- ARGV[5]  length of the event stream
--
-- Returns 1, or 0 if the number of tokens has reached the limit or the token to remove does not exist.
local tokens, events = KEYS[1], KEYS[2]
local id, doc = ARGV[1], ARGV[2]
if doc ~= '' then
  if redis.call('HLEN', tokens) >= tonumber(ARGV[3]) then return 0 end
  redis.call('HSET', tokens, id, doc)
elseif redis.call('HDEL', tokens, id) == 0 then
  return 0
end
redis.call('XADD', events, 'MAXLEN', '~', ARGV[5], '*', 'event', ARGV[4], 'doc', '')
return 1
