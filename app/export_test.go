package app

var (
	ParseAddress = parseAddress
	ParseHealth  = parseHealth
	ParseStatus  = parseStatus
)
