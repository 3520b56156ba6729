//go:build unix

package entrypoint

import (
	"cmp"
	"strings"
)

// address is where others reach the command: what was given, or what a platform says
// for certain. It is empty if only the caller's address is known.
func (env environmentMap) address() string {
	return cmp.Or(env["ROLLCALL_ADDRESS"], env["FLY_PRIVATE_IP"],
		env.nomad("NOMAD_HOST_ADDR_"), env.nomad("NOMAD_ADDR_"), env["POD_IP"])
}

// nomad is the address with the label http, or else the only one there is.
func (env environmentMap) nomad(prefix string) string {
	if labelled := env[prefix+"http"]; labelled != "" {
		return labelled
	}
	var only string
	for name, value := range env {
		switch {
		case value == "" || !strings.HasPrefix(name, prefix):
		case only != "":
			return ""
		default:
			only = value
		}
	}
	return only
}

// ported reports whether an address names a port: 10.0.0.7:80 and [::1]:80 do, ::1
// does not.
func ported(address string) bool {
	return strings.Contains(address, "]:") || strings.Count(address, ":") == 1
}
