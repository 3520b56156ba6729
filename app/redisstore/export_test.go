package redisstore

import "rollcall/app"

// ServerFindings is what Examine makes of a server's INFO.
func ServerFindings(info map[string]string) []app.Finding { return serverFindings(info) }
