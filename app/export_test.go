package app

var (
	ParseAddress  = parseAddress
	ParseHealth   = parseHealth
	ParseStatuses = parseStatuses
	SameFields    = sameFields
	With          = Instance.with
)
