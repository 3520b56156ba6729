//go:build unix

package entrypoint

import (
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"rollcall/app/client"
)

// settings is what the environment says of the command.
type settings struct {
	url, shownURL string // of Rollcall; shown without a password
	token         string
	id            string
	freeID        string     // to register under when another container has the id; empty: the operator set the id
	form          url.Values // the registration, without address and port
	address, port string
	metadata      string // where Amazon ECS says the address, if it is to be asked

	stops map[os.Signal]bool // signals that drain first

	hold, reassert     time.Duration
	healthCommand      string
	interval, patience time.Duration // of the health command
}

// missingSetting says what is missing to register at all.
func missingSetting(environ []string) string {
	env := environment(environ)
	for _, name := range []string{"ROLLCALL_URL", "ROLLCALL_SERVICE"} {
		if env[name] == "" {
			return name + " is not set"
		}
	}
	return ""
}

// withoutPassword is a URL without user name and password.
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

// withoutSecrets is the environment of the command: without the token, which lets its
// bearer register anything, and without the password of the URL.
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

// stopSignals is TERM, INT and QUIT, and the signals of ROLLCALL_STOP_SIGNAL.
func (env environmentMap) stopSignals(say func(string, ...any)) map[os.Signal]bool {
	stops := map[os.Signal]bool{syscall.SIGTERM: true, syscall.SIGINT: true, syscall.SIGQUIT: true}
	for _, name := range items(env["ROLLCALL_STOP_SIGNAL"], ",") {
		s, ok := parseSignal(name)
		if !ok {
			say("ROLLCALL_STOP_SIGNAL: %s is not a signal that the hook can catch; ignored", name)
			continue
		}
		stops[s] = true
	}
	return stops
}

// readSettings reads the environment. What is wrong with a field is Rollcall's to say;
// what is wrong with our own settings is said, and the default is taken: a command is
// started in any case.
func readSettings(environ []string, say func(string, ...any)) settings {
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
	s.stops = env.stopSignals(say)
	s.id = env["ROLLCALL_ID"]
	if s.id == "" {
		s.id = defaultID(env["ROLLCALL_SERVICE"], s.address, s.port)
		s.freeID = s.id + "-" + strings.ToLower(rand.Text()[:6])
	}
	s.hold = env.duration("ROLLCALL_HOLD", 5*time.Second, say)
	s.reassert = max(env.duration("ROLLCALL_REASSERT", 10*time.Second, say), 500*time.Millisecond)
	quiet := func(string, ...any) {} // Rollcall refuses these
	s.interval = max(env.duration("ROLLCALL_INTERVAL", 5*time.Second, quiet), 100*time.Millisecond)
	s.patience = env.duration("ROLLCALL_TIMEOUT", s.interval, quiet)
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

// port is where the command listens. Kubernetes and Docker links set ROLLCALL_PORT to
// tcp://10.0.0.1:8080 for a service called rollcall: it does not name the command's port.
func (env environmentMap) port() string {
	if port := env["ROLLCALL_PORT"]; port != "" && !strings.Contains(port, "://") {
		return port
	}
	return env["PORT"]
}

func (env environmentMap) duration(name string, def time.Duration, say func(string, ...any)) time.Duration {
	if env[name] == "" {
		return def
	}
	d, err := time.ParseDuration(env[name])
	if err != nil || d < 0 {
		say("%s is '%s', which is no duration such as 5s: taking %s", name, env[name], def)
		return def
	}
	return d
}

// form is the fields of the registration that do not change.
func (env environmentMap) form(id string) url.Values {
	form := url.Values{"id": {id}, "boot": {env["ROLLCALL_BOOT"]}}
	if env["ROLLCALL_BOOT"] == "" {
		form.Set("boot", rand.Text())
	}
	for _, field := range []string{
		"service", "replaces", "health", "interval", "timeout", "rise", "fall", "grace", "forget", "weight", "fail_open",
	} {
		if value := env["ROLLCALL_"+strings.ToUpper(field)]; value != "" {
			form.Set(field, value)
		}
	}
	if env["ROLLCALL_HEALTH_CMD"] != "" {
		form.Set("health", "heartbeat")
	}
	for field, separators := range map[string]string{"host": ", \n", "tag": ",", "expect": "\n"} {
		for _, item := range items(env["ROLLCALL_"+strings.ToUpper(field)], separators) {
			form.Add(field, item)
		}
	}
	for _, item := range items(env["ROLLCALL_META"], ",") {
		name, value, _ := strings.Cut(item, "=")
		form.Add("meta."+name, value)
	}
	return form
}

// items splits a list, without the spaces around its items and without empty ones.
func items(list, separators string) []string {
	var out []string
	for _, item := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		if item = strings.Trim(item, " "); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// defaultID names an instance after its container, in what the API takes. The end of a
// long host name tells it from others.
func defaultID(service, address, port string) string {
	if ported(address) {
		port = address[strings.LastIndexByte(address, ':')+1:]
	}
	host, _ := os.Hostname() // without one, the id says less
	id := service + "-" + host[max(0, len(host)-58):]
	if port != "" {
		id += "-" + port
	}
	clean := []byte(id)
	for i, c := range clean {
		switch {
		case c >= 'A' && c <= 'Z':
			clean[i] = c + 'a' - 'A'
		case (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_':
			clean[i] = '-'
		}
	}
	return string(clean)
}
