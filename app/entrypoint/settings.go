//go:build unix

package entrypoint

import (
	"cmp"
	"crypto/rand"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"rollcall/app/client"
)

// settings is the configuration of the supervisor, from the environment.
type settings struct {
	url, shownURL string // of Rollcall; shownURL has no password
	token         string
	id            string
	freeID        string     // replaces id if another container has it; empty: the operator set id
	form          url.Values // the registration, without address and port
	address, port string
	metadata      string // URL at which Amazon ECS returns the address; empty: not on ECS

	stops map[os.Signal]bool // signals that drain first

	drainPeriod, reassert   time.Duration
	healthCommand           string
	interval, healthTimeout time.Duration // of the health command
}

// missingSetting returns why the command cannot be registered. It is empty if it can.
func missingSetting(environ []string) string {
	env := environment(environ)
	for _, name := range []string{"ROLLCALL_URL", "ROLLCALL_SERVICE"} {
		if env[name] == "" {
			return name + " is not set"
		}
	}
	return ""
}

// withoutPassword returns a URL without user name and password.
func withoutPassword(address string) string {
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		scheme, rest = "", address
	} else {
		scheme += "://"
	}
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	return scheme + authority[strings.LastIndexByte(authority, '@')+1:] + path
}

// withoutSecrets returns the environment of the command: without the token, with which it could register other
// instances, and without the password of the URL.
func withoutSecrets(environ []string) []string {
	var kept []string
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		switch name {
		case "ROLLCALL_TOKEN":
			continue
		case "ROLLCALL_URL":
			e = name + "=" + withoutPassword(value)
		}
		kept = append(kept, e)
	}
	return kept
}

// stopSignals returns TERM, INT and QUIT, and the signals of ROLLCALL_STOP_SIGNAL.
func (env environmentMap) stopSignals(log logFunc) map[os.Signal]bool {
	stops := map[os.Signal]bool{syscall.SIGTERM: true, syscall.SIGINT: true, syscall.SIGQUIT: true}
	for _, name := range items(env["ROLLCALL_STOP_SIGNAL"], ",") {
		s, ok := parseSignal(name)
		if !ok {
			log("ROLLCALL_STOP_SIGNAL: %s is not a signal that can be caught; ignored", name)
			continue
		}
		stops[s] = true
	}
	return stops
}

// readSettings reads the environment. It logs an invalid setting of the supervisor and takes the default, so that the
// command starts in any case. Rollcall refuses an invalid field of the registration.
func readSettings(environ []string, log logFunc) settings {
	env := environment(environ)
	s := settings{
		url:           client.WithScheme(strings.TrimSuffix(env["ROLLCALL_URL"], "/")),
		token:         strings.TrimSpace(env["ROLLCALL_TOKEN"]),
		address:       env.address(),
		port:          env.port(),
		metadata:      env["ECS_CONTAINER_METADATA_URI_V4"],
		healthCommand: env["ROLLCALL_HEALTH_CMD"],
	}
	s.shownURL = withoutPassword(s.url)
	s.stops = env.stopSignals(log)
	s.id = env["ROLLCALL_ID"]
	if s.id == "" {
		s.id = defaultID(env["ROLLCALL_SERVICE"], s.address, s.port)
		s.freeID = s.id + "-" + strings.ToLower(rand.Text()[:6])
	}
	s.drainPeriod = env.duration("ROLLCALL_HOLD", 5*time.Second, log)
	s.reassert = max(env.duration("ROLLCALL_REASSERT", 10*time.Second, log), 500*time.Millisecond)
	silent := func(string, ...any) {} // Rollcall refuses invalid values of these fields
	s.interval = max(env.duration("ROLLCALL_INTERVAL", 5*time.Second, silent), 100*time.Millisecond)
	s.healthTimeout = env.duration("ROLLCALL_TIMEOUT", s.interval, silent)
	s.form = env.form(s.id)
	return s
}

type environmentMap map[string]string

func environment(environ []string) environmentMap {
	env := environmentMap{}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	return env
}

// port returns the port of the command. For a service called rollcall, Kubernetes and Docker links set ROLLCALL_PORT
// to a URL such as tcp://10.0.0.1:8080, which is not the port of the command.
func (env environmentMap) port() string {
	if port := env["ROLLCALL_PORT"]; port != "" && !strings.Contains(port, "://") {
		return port
	}
	return env["PORT"]
}

func (env environmentMap) duration(name string, def time.Duration, log logFunc) time.Duration {
	if env[name] == "" {
		return def
	}
	d, err := time.ParseDuration(env[name])
	if err != nil || d < 0 {
		log("%s is '%s', which is not a duration such as 5s: using %s", name, env[name], def)
		return def
	}
	return d
}

// form returns the fields of the registration that do not change.
func (env environmentMap) form(id string) url.Values {
	form := url.Values{"id": {id}, "boot": {cmp.Or(env["ROLLCALL_BOOT"], rand.Text())}}
	for _, field := range []string{
		"service", "replaces", "health", "health_host", "health_method", "tls_skip_verify", "tls_server_name", "interval", "timeout", "rise", "fall", "grace", "forget", "weight", "fail_open",
	} {
		if value := env["ROLLCALL_"+strings.ToUpper(field)]; value != "" {
			form.Set(field, value)
		}
	}
	if env["ROLLCALL_HEALTH_CMD"] != "" {
		form.Set("health", "heartbeat")
	}
	env.addLists(form)
	return form
}

// addLists adds the fields that a variable may contain several times.
func (env environmentMap) addLists(form url.Values) {
	for field, separators := range map[string]string{"host": ", \n", "tag": ",", "expect": "\n", "health_header": "\n"} {
		for _, item := range items(env["ROLLCALL_"+strings.ToUpper(field)], separators) {
			form.Add(field, item)
		}
	}
	for _, item := range items(env["ROLLCALL_META"], ",") {
		name, value, _ := strings.Cut(item, "=")
		form.Add("meta."+name, value)
	}
}

// items splits a list. It trims spaces and omits empty items.
func items(list, separators string) []string {
	var out []string
	for _, item := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		if item = strings.Trim(item, " "); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// defaultID returns an id from the service, the host name and the port, in the characters that the API accepts. Long
// host names differ at their end.
func defaultID(service, address, port string) string {
	if hasPort(address) {
		port = address[strings.LastIndexByte(address, ':')+1:]
	}
	host, _ := os.Hostname() // the id is unique enough without one
	id := service + "-" + host[max(0, len(host)-58):]
	if port != "" {
		id += "-" + port
	}
	return notInID.ReplaceAllStringFunc(strings.ToLower(id), func(s string) string { return strings.Repeat("-", len(s)) })
}

var notInID = regexp.MustCompile(`[^a-z0-9._]`)
