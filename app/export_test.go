package app

var (
	ParseAddress  = parseAddress
	ParseHealth   = parseHealth
	ParseStatuses = parseStatuses
)
