//go:build unix

package entrypoint

import (
	"cmp"
	"strings"
)

// address returns the address at which others reach the command: the configured one, or an unambiguous one of the
// platform. It is empty if neither exists; Rollcall then takes the address of the caller.
func (env environmentMap) address() string {
	return cmp.Or(env["ROLLCALL_ADDRESS"], env["FLY_PRIVATE_IP"],
		env.nomad("NOMAD_HOST_ADDR_"), env.nomad("NOMAD_ADDR_"), env["POD_IP"])
}

// nomad returns the address with the label http, or else the only one.
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

// hasPort reports whether an address has a port: 10.0.0.7:80 and [::1]:80 do, ::1 does not.
func hasPort(address string) bool {
	return strings.Contains(address, "]:") || strings.Count(address, ":") == 1
}
