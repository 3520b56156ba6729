package handlers_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// many is a field that is given n times.
func many(n int, name, value string) []string {
	return slices.Repeat([]string{name, value}, n)
}

// TestBadFields sends service=web and port=80 together with each row, as a form and as JSON. A row with service or port
// replaces that field. The detail of the answer begins with the name of the field.
func TestBadFields(t *testing.T) {
	t.Parallel()
	const (
		service  = "give 1 to 63 lower-case letters, digits, hyphens, dots or underscores, beginning with a letter or digit"
		id       = "give 1 to 128 letters, digits, hyphens, dots or underscores, beginning with a letter or digit"
		port     = "give a number from 1 to 65535"
		address  = "give host:port, such as 10.0.0.7:8080"
		name     = "give an IP address or a host name"
		host     = "which is not a host name; give a name such as shop.example.com, *.example.com or *"
		health   = "give /path, :port/path, https:/path, https:port/path, http://own-host:port/path, tcp, tcp:port, grpc, grpc:name, grpcs, memcached, redis, heartbeat or none"
		expect   = "give statuses (200, 200,204, 200-299,401 or 2xx) and text of the body, each at most once"
		own      = "give the host name that the application answers to, such as shop.example or shop.example:8080"
		header   = "give a name and a value, such as Authorization: Bearer TOKEN"
		duration = "give a duration with its unit, such as 500ms, 2s or 1m"
		whole    = "give a whole number"
		empty    = "is empty; give a value, or leave the field out"
		twice    = "is given twice; give it once"
		plain    = "is not plain text; give UTF-8 without control characters"
		unknown  = "is not a field of this call; it has service, id, boot, replaces, address, port, host, health, health_host, health_method, health_header, expect, " +
			"tls_skip_verify, tls_server_name, weight, fail_open, tag, meta.*, interval, timeout, grace, forget, rise, fall"
	)
	long := strings.Repeat("a", 1000)
	s := newService(t)
	before := s.stored()
	for _, c := range []struct {
		pairs []string
		want  string
	}{
		{[]string{"service", ""}, "service " + empty},
		{[]string{"service", "Web"}, `service is "Web"; ` + service},
		{[]string{"service", "web/x"}, `service is "web/x"; ` + service},
		{[]string{"service", "-web"}, `service is "-web"; ` + service},
		{[]string{"service", "wéb"}, `service is "wéb"; ` + service},
		{[]string{"service", "web\r\nX: y"}, `service is "web\r\nX: y"; ` + service},
		{[]string{"service", "web\x00"}, `service is "web\x00"; ` + service},
		{[]string{"service", long[:64]}, `service is "` + long[:64] + `"; ` + service},
		{[]string{"service", long}, `service is "` + long[:80] + `"; ` + service},
		{[]string{"service", "web", "service", "db"}, "service " + twice},

		{[]string{"port", ""}, "port " + empty},
		{[]string{"port", "0"}, `port is "0"; ` + port},
		{[]string{"port", "-1"}, `port is "-1"; ` + port},
		{[]string{"port", "70000"}, `port is "70000"; ` + port},
		{[]string{"port", "99999999999999999999"}, `port is "99999999999999999999"; ` + port},
		{[]string{"port", "abc"}, `port is "abc"; ` + port},
		{[]string{"port", "1.5"}, `port is "1.5"; ` + port},
		{[]string{"port", "8e1"}, `port is "8e1"; ` + port},
		{[]string{"port", "80;"}, `port is "80;"; ` + port},
		{[]string{"port", "80", "port", "81"}, "port " + twice},
		{[]string{"address", "10.0.0.7:81"}, "port is 80, but address names port 81; give the port once"},

		{[]string{"address", ""}, "address " + empty},
		{[]string{"address", "https://10.0.0.7"}, "address has a scheme; backends speak plain http; " + address},
		{[]string{"address", "10.0.0.7/x"}, "address has a host that is neither an IP address nor a name; " + name},
		{[]string{"address", "user@web"}, "address has a host that is neither an IP address nor a name; " + name},
		{[]string{"address", "bücher.example"}, "address has a host that is neither an IP address nor a name; " + name},
		{[]string{"address", "10.0.0"}, "address has a host that looks like a number but is not an IP address; " + name},
		{[]string{"address", "0x7f000001"}, "address has a host that looks like a number but is not an IP address; " + name},
		{[]string{"address", "fe80::1%eth0"}, "address has an IPv6 zone; an address with a zone means something else on every machine"},
		{[]string{"address", "::"}, "address is the unspecified address; give the address that others reach it at"},
		{[]string{"address", "224.0.0.1"}, "address is a multicast address; " + name},
		{[]string{"address", "10.0.0.7\r\n"}, "address " + plain},
		{[]string{"address", "\xff"}, "address " + plain},
		{[]string{"address", long}, "address has 1000 bytes; give at most 300"},
		{[]string{"address", "a", "address", "b"}, "address " + twice},

		{[]string{"host", ""}, "host " + empty},
		{[]string{"host", "a.test", "host", ""}, "host " + empty},
		{[]string{"host", "a b"}, `host is "a b", ` + host},
		{[]string{"host", "a.test\x00"}, `host is "a.test\x00", ` + host},
		{[]string{"host", "a\r\nb"}, `host is "a\r\nb", ` + host},
		{[]string{"host", "a;b"}, `host is "a;b", ` + host},
		{[]string{"host", "a.test/x"}, `host is "a.test/x", ` + host},
		{[]string{"host", "*.*.test"}, `host is "*.*.test", ` + host},
		{[]string{"host", "user@a.test"}, `host is "user@a.test", ` + host},
		{[]string{"host", long}, `host is "` + long[:80] + `", ` + host},
		{[]string{"host", "a.test", "host", "A.Test."}, `host names "a.test" twice; name every vhost once`},
		{many(21, "host", "a.test"), "host is given 21 times; an instance serves at most 20"},

		{[]string{"health", ""}, "health " + empty},
		{[]string{"health", "healthz"}, `health is "healthz"; ` + health},
		{[]string{"health", ":0/x"}, `health is ":0/x"; ` + health},
		{[]string{"health", "tcp:70000"}, `health is "tcp:70000": the port is not a number from 1 to 65535; ` + health},
		{[]string{"health", "heartbeat:1"}, `health is "heartbeat:1", and heartbeat has no port; ` + health},
		{[]string{"health", "/a b"}, "health contains a space, a control character or a character outside ASCII; " + health},
		{[]string{"health", "/\r\nHost: x"}, "health contains a space, a control character or a character outside ASCII; " + health},
		{[]string{"health", "/" + long}, "health is longer than 512 characters; " + health},
		{[]string{"health", "ftp://10.0.0.7/"}, `health has the scheme "ftp"; give http or https`},
		{[]string{"health", "http://10.0.0.8/"}, `health has the host "10.0.0.8"; a health URL is on the instance's own host, here 10.0.0.7; give only :port/path`},
		{[]string{"health", "tcp", "health", "grpc"}, "health " + twice},

		{[]string{"expect", "200"}, "expect goes with an http check only; leave it out, or give health as a path"},
		{[]string{"health_host", "a.example"}, "health_host goes with an http check only; leave it out, or give health as a path"},
		{[]string{"health", "/", "health_host", "a b"}, `health_host is "a b"; ` + own},
		{[]string{"health", "/", "health_host", "a.example:0"}, `health_host is "a.example:0"; ` + own},
		{[]string{"health", "/", "health_method", "POST"}, `health_method is "POST"; give GET or HEAD`},
		{[]string{"health", "tcp", "health_method", "HEAD"}, "health_method goes with an http check only; leave it out, or give health as a path"},
		{
			[]string{"health", "/", "health_method", "HEAD", "expect", "ok"},
			"health_method is HEAD, and its answers have no body; give GET, or leave the text out of expect",
		},
		{[]string{"health", "tcp", "health_header", "A: b"}, "health_header goes with an http check only; leave it out, or give health as a path"},
		{[]string{"health", "/", "health_header", "Bearer s3cret"}, "health_header is not Name: value; " + header},
		{[]string{"health", "/", "health_header", "A b: s3cret"}, "health_header has a name that HTTP does not allow; " + header},
		{[]string{"health", "/", "health_header", "A: s3cret\r\nB: c"}, "health_header A has characters other than visible ASCII; " + header},
		{[]string{"health", "/", "health_header", "host: s3cret"}, "health_header is Host; give health_host"},
		{[]string{"health", "/", "health_header", "connection: s3cret"}, "health_header is Connection, which Rollcall sets itself; give another one, such as Authorization"},
		{[]string{"health", "/", "health_header", "Content-Length: 1"}, "health_header is Content-Length, which Rollcall sets itself; give another one, such as Authorization"},
		{[]string{"health", "/", "health_header", "Transfer-Encoding: x"}, "health_header is Transfer-Encoding, which Rollcall sets itself; give another one, such as Authorization"},
		{[]string{"health", "/", "health_header", "A: b", "health_header", "a: s3cret"}, "health_header A is given twice; give each header once"},
		{[]string{"health", "/", "health_header", "A: " + strings.Repeat("s", 4097)}, "health_header A has 4097 bytes; give at most 4096"},
		{append(many(11, "health_header", "A: b"), "health", "/"), "health_header is given 11 times; give at most 10"},
		{[]string{"health", "/", "tls_skip_verify", "true"}, "tls_skip_verify goes with a check over TLS only; leave it out, or give health as https:/path or grpcs"},
		{[]string{"health", "/", "tls_server_name", "a.test"}, "tls_server_name goes with a check over TLS only; leave it out, or give health as https:/path or grpcs"},
		{[]string{"health", "https:/", "tls_skip_verify", "yes"}, `tls_skip_verify is "yes"; give true or false`},
		{[]string{"health", "https:/", "tls_server_name", "a/b"}, `tls_server_name is "a/b"; give a name of the certificate, such as shop.example`},
		{[]string{"health", "/", "expect", ""}, "expect " + empty},
		{[]string{"health", "/", "expect", "200", "expect", "201"}, "expect is given twice; " + expect},
		{[]string{"health", "/", "expect", "a", "expect", "b"}, "expect is given twice; " + expect},
		{[]string{"health", "/", "expect", "a\x00"}, "expect " + plain},
		{[]string{"health", "/", "expect", long}, "expect has 1000 bytes; give at most 200"},

		{[]string{"id", ""}, "id " + empty},
		{[]string{"id", "a/b"}, `id is "a/b"; ` + id},
		{[]string{"id", ".."}, `id is ".."; ` + id},
		{[]string{"id", "a\nb"}, `id is "a\nb"; ` + id},
		{[]string{"id", long}, `id is "` + long[:80] + `"; ` + id},
		{[]string{"id", "a", "id", "b"}, "id " + twice},
		{[]string{"replaces", ""}, "replaces " + empty},
		{[]string{"replaces", "a b"}, `replaces is "a b"; ` + id},
		{[]string{"id", "a", "replaces", "a"}, "replaces is the instance's own id; give the id of the instance to take over from"},
		{[]string{"boot", ""}, "boot " + empty},
		{[]string{"boot", "a\x1b[31m"}, "boot " + plain},
		{[]string{"boot", "\xff"}, "boot " + plain},
		{[]string{"boot", long}, "boot has 1000 bytes; give at most 128"},

		{[]string{"interval", ""}, "interval " + empty},
		{[]string{"interval", "2"}, `interval is "2"; ` + duration},
		{[]string{"interval", "soon"}, `interval is "soon"; ` + duration},
		{[]string{"interval", "-1s"}, "interval is -1s; give a duration from 100ms to 1h"},
		{[]string{"interval", "1ms"}, "interval is 1ms; give a duration from 100ms to 1h"},
		{[]string{"interval", "61m"}, "interval is 1h1m0s; give a duration from 100ms to 1h"},
		{[]string{"interval", "1s", "interval", "2s"}, "interval " + twice},
		{[]string{"timeout", "0s"}, "timeout is 0s; give a duration from 1ms to 30s"},
		{[]string{"timeout", "31s"}, "timeout is 31s; give a duration from 1ms to 30s"},
		{[]string{"timeout", "1"}, `timeout is "1"; ` + duration},
		{[]string{"grace", "0s"}, "grace is 0s; give a duration up to 24h"},
		{[]string{"grace", "25h"}, "grace is 25h0m0s; give a duration up to 24h"},
		{[]string{"grace", "1"}, `grace is "1"; ` + duration},
		{[]string{"forget", "1ms"}, "forget is 1ms; give a duration from 1s to 720h"},
		{[]string{"forget", "721h"}, "forget is 721h0m0s; give a duration from 1s to 720h"},
		{[]string{"forget", "never"}, `forget is "never"; ` + duration},
		{[]string{"rise", "0"}, "rise is 0; give a number from 1 to 100"},
		{[]string{"rise", "101"}, "rise is 101; give a number from 1 to 100"},
		{[]string{"rise", "twice"}, `rise is "twice"; ` + whole},
		{[]string{"fall", "-1"}, "fall is -1; give a number from 1 to 100"},
		{[]string{"fall", "101"}, "fall is 101; give a number from 1 to 100"},
		{[]string{"fall", "2.0"}, `fall is "2.0"; ` + whole},
		{[]string{"weight", "0"}, "weight is 0; give a number from 1 to 100"},
		{[]string{"weight", "101"}, "weight is 101; give a number from 1 to 100"},
		{[]string{"weight", "heavy"}, `weight is "heavy"; ` + whole},
		{[]string{"weight", "1", "weight", "1"}, "weight " + twice},
		{[]string{"fail_open", ""}, "fail_open " + empty},
		{[]string{"fail_open", "yes"}, `fail_open is "yes"; give true or false`},
		{[]string{"fail_open", "1"}, `fail_open is "1"; give true or false`},

		{[]string{"tag", ""}, "tag " + empty},
		{[]string{"tag", "a\x00"}, "tag " + plain},
		{[]string{"tag", "a", "tag", long}, "tag has 1000 bytes; give at most 64"},
		{many(21, "tag", "a"), "tag is given 21 times; give at most 20"},
		{[]string{"meta", "x"}, "meta has no name; give meta.name=value, or in JSON an object"},
		{[]string{"meta.", "x"}, "meta. has no name; give meta.name=value, or in JSON an object"},
		{[]string{"meta.a", "1", "meta.a", "2"}, "meta.a " + twice},
		{[]string{"meta.a", "\r\n"}, "meta.a " + plain},
		{[]string{"meta.a\r\n", "1"}, `meta.a\r\n ` + plain},
		{[]string{"meta.a", long}, "meta.a has 1000 bytes; give at most 256"},
		{[]string{"meta." + long, "1"}, "meta." + long[:80] + " has 1000 bytes; give at most 64"},

		{[]string{"prot", "80"}, "prot " + unknown},
		{[]string{"Port", "80"}, "Port " + unknown},
		{[]string{"caller", "192.0.2.1"}, "caller " + unknown},
		{[]string{"Caller", "192.0.2.1"}, "Caller " + unknown},
		{[]string{"", "192.0.2.1"}, `"" ` + unknown},
		{[]string{"port.a", "80"}, "port.a " + unknown},
		{[]string{"a\x00\r\n", "1"}, `a\x00\r\n ` + unknown},
		{[]string{long, "1"}, long[:80] + " " + unknown},
	} {
		all := values("service", "web", "port", "80")
		maps.Copy(all, values(c.pairs...))
		sent, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		field := c.want[:strings.IndexByte(c.want, ' ')]
		calls := []call{s.call(http.MethodPost, "/v1/register", strings.NewReader(all.Encode())).header("Content-Type", "application/x-www-form-urlencoded")}
		if !strings.Contains(fmt.Sprint(c.pairs), "\xff") { // JSON is UTF-8
			calls = append(calls, s.json(http.MethodPost, "/v1/register", string(sent)))
		}
		for _, call := range calls {
			p := call.problem(http.StatusUnprocessableEntity)
			if p.Detail != c.want || p.Field != field || p.Type != "urn:rollcall:invalid" {
				t.Errorf("%q (%s):\n got %s: %s\nwant %s: %s", c.pairs, call.request.Header.Get("Content-Type"), p.Field, p.Detail, field, c.want)
			}
		}
	}
	same(t, "what is stored", s.stored(), before)
}

func TestMissingFields(t *testing.T) {
	t.Parallel()
	s := newService(t)
	before := s.stored()
	for body, want := range map[string]string{
		"":                                   "service is missing; give 1 to 63 lower-case letters, digits, hyphens, dots or underscores, beginning with a letter or digit",
		"{}":                                 "service is missing; give 1 to 63 lower-case letters, digits, hyphens, dots or underscores, beginning with a letter or digit",
		`{"port":80,"service":null}`:         "service is missing; give 1 to 63 lower-case letters, digits, hyphens, dots or underscores, beginning with a letter or digit",
		`{"service":"web"}`:                  "port is missing; give port, or address as host:port",
		`{"service":"web","address":"web"}`:  "address is not host:port; give host:port, such as 10.0.0.7:8080",
		`{"service":"web","address":"::1"}`:  "address is not host:port; give host:port, such as 10.0.0.7:8080",
		`{"service":"web","address":"a:b"}`:  "address has a port that is not a number from 1 to 65535; give host:port, such as 10.0.0.7:8080",
		`{"service":"web","address":"a:0"}`:  "address has a port that is not a number from 1 to 65535; give host:port, such as 10.0.0.7:8080",
		`{"service":"web","address":":80"}`:  "address has a host that is neither an IP address nor a name; give an IP address or a host name",
		`{"service":"web","address":"a:1/"}`: "address has a port that is not a number from 1 to 65535; give host:port, such as 10.0.0.7:8080",

		`{"service":"web","address":"http://10.0.0.7:80"}`: "address has a scheme; backends speak plain http; give host:port, such as 10.0.0.7:8080",
	} {
		p := s.json(http.MethodPost, "/v1/register", body).problem(http.StatusUnprocessableEntity)
		if p.Detail != want {
			t.Errorf("%s:\n got %s\nwant %s", body, p.Detail, want)
		}
	}
	same(t, "what is stored", s.stored(), before)
}

// TestBadJSONValues sends values that a form does not have.
func TestBadJSONValues(t *testing.T) {
	t.Parallel()
	s := newService(t)
	before := s.stored()
	for member, want := range map[string]string{
		`"port":80.5`:          `port is "80.5"; give a number from 1 to 65535`,
		`"port":true`:          `port is "true"; give a number from 1 to 65535`,
		`"port":[]`:            "port is empty; give a value, or leave the field out",
		`"port":[80,81]`:       "port is given twice; give it once",
		`"port":{"a":80}`:      "port is an object; give text, a number or a boolean",
		`"port":[{"a":80}]`:    "port is an array of something else than text; give an array of text",
		`"port":[[80]]`:        "port is an array of something else than text; give an array of text",
		`"port":80,"port":80`:  "port is given twice; give it once",
		`"port":null,"port":1`: "port is given twice; give it once",

		`"port":80,"host":{"a":"b"}`:            "host is an object; give text, a number or a boolean",
		`"port":80,"host":["a.test",null]`:      "host is an array of something else than text; give an array of text",
		`"port":80,"host":"a","host":"b"`:       "host is given twice; give it once",
		`"port":80,"fail_open":0`:               `fail_open is "0"; give true or false`,
		`"port":80,"interval":2`:                `interval is "2"; give a duration with its unit, such as 500ms, 2s or 1m`,
		`"port":80,"meta":[1]`:                  "meta has no name; give meta.name=value, or in JSON an object",
		`"port":80,"meta":{"":1}`:               "meta. has no name; give meta.name=value, or in JSON an object",
		`"port":80,"meta":{"a":{"b":1}}`:        "meta.a is an object; give text, a number or a boolean",
		`"port":80,"meta":{"meta":{"b":1}}`:     "meta.meta is an object; give text, a number or a boolean",
		`"port":80,"meta":{"a":[1,2]}`:          "meta.a is given twice; give it once",
		`"port":80,"meta":{"a":1,"a":2}`:        "meta.a is given twice; give it once",
		`"port":80,"meta":{"a":1},"meta":{}`:    "meta is given twice; give it once",
		`"port":80,"meta":{"a":1},"meta.a":2`:   "meta.a is given twice; give it once",
		`"port":80,"meta.a":1,"meta":{"a":2}`:   "meta.a is given twice; give it once",
		`"port":80,"nobody":null`:               "nobody is not a field of this call; ",
		`"port":80,"\u0000":1`:                  `\x00 is not a field of this call; `,
		`"port":80,"service.name":"x"`:          "service.name is not a field of this call; ",
		`"port":80,"tag":["a","\ud800b\u0000"]`: "tag is not plain text; give UTF-8 without control characters",
	} {
		p := s.json(http.MethodPost, "/v1/register", `{"service":"web",`+member+`}`).problem(http.StatusUnprocessableEntity)
		if !strings.HasPrefix(p.Detail, want) || !strings.HasPrefix(want, p.Field+" ") {
			t.Errorf("%s:\n got %s: %s\nwant %s", member, p.Field, p.Detail, want)
		}
	}
	same(t, "what is stored", s.stored(), before)
}

func TestMalformedBodies(t *testing.T) {
	t.Parallel()
	const (
		object = "give an object, or to register an array of 1 to 100"
		encode = "encode special characters, as curl --data-urlencode name=value does"
	)
	s := newService(t)
	before := s.stored()
	deep := strings.Repeat("[", 20000)
	for body, want := range map[string][2]string{
		`{`:                                    {"malformed JSON at byte 1: unexpected end of JSON input", object},
		`{"service":"web","port":80`:           {"malformed JSON at byte 26: unexpected end of JSON input", object},
		`{"service":"web","port":80,}`:         {"malformed JSON at byte 28: invalid character '}' looking for beginning of object key string", object},
		`{"service":"web"} {}`:                 {"malformed JSON at byte 19: invalid character '{' after top-level value", object},
		`{"service":"web"}x`:                   {"malformed JSON at byte 18: invalid character 'x' after top-level value", object},
		`{'service':'web'}`:                    {"malformed JSON at byte 2: invalid character '\\'' looking for beginning of object key string", object},
		`{5:1}`:                                {"malformed JSON at byte 2: invalid character '5' looking for beginning of object key string", object},
		`[{}`:                                  {"malformed JSON at byte 3: unexpected end of JSON input", object},
		`[{}] []`:                              {"malformed JSON at byte 6: invalid character '[' after top-level value", object},
		`[]`:                                   {"malformed JSON: an array of 0 entries", object},
		`[` + strings.Repeat(`5,`, 100) + `5]`: {"malformed JSON: an array of 101 entries", object},
		deep:                                   {"malformed JSON at byte 10001: invalid character '[' exceeded max depth", object},
		`"web"`:                                {"malformed JSON: not an object", object},
		`5`:                                    {"malformed JSON: not an object", object},
		`true`:                                 {"malformed JSON: not an object", object},
		`null`:                                 {"malformed JSON: not an object", object},
		"\x00":                                 {`malformed JSON at byte 1: invalid character '\x00' looking for beginning of value`, object},
		"\ufeff{}":                             {"malformed JSON at byte 1: invalid character 'ï' looking for beginning of value", object},
	} {
		p := s.json(http.MethodPost, "/v1/register", body).problem(http.StatusBadRequest)
		if len(body) > 50 {
			body = body[:50]
		}
		same(t, body, [3]string{p.Type, p.Detail, p.Want}, [3]string{"urn:rollcall:malformed", want[0], want[1]})
	}
	for body, want := range map[string][2]string{
		"service=web&port=80&host=a;b": {"malformed form: invalid semicolon separator in query", encode},
		"service=web;port=80":          {"malformed form: invalid semicolon separator in query", encode},
		"service=%zz":                  {`malformed form: invalid URL escape "%zz"`, encode},
		"%":                            {`malformed form: invalid URL escape "%"`, encode},
		`{"service":"web",}`:           {"malformed JSON at byte 18: invalid character '}' looking for beginning of object key string", object},
	} {
		p := s.call(http.MethodPost, "/v1/register", strings.NewReader(body)).
			header("Content-Type", "application/x-www-form-urlencoded").problem(http.StatusBadRequest)
		same(t, body, [3]string{p.Type, p.Detail, p.Want}, [3]string{"urn:rollcall:malformed", want[0], want[1]})
	}
	same(t, "what is stored", s.stored(), before)
}

func TestTooLargeBody(t *testing.T) {
	t.Parallel()
	s := newService(t)
	before := s.stored()
	for _, media := range []string{"application/json", "application/x-www-form-urlencoded", "text/xml", ""} {
		for _, start := range []string{"service=web&port=80&meta.a=", `{"service":"web","port":80,"meta":{"a":"`} {
			p := s.call(http.MethodPost, "/v1/register", strings.NewReader(start+strings.Repeat("a", 1<<20))).
				header("Content-Type", media).problem(http.StatusRequestEntityTooLarge)
			same(t, media, p, problem{
				Type: "urn:rollcall:too-large", Title: "Too large", Status: http.StatusRequestEntityTooLarge,
				Detail: "the body is larger than 262144 bytes", Want: "send less, or in several calls",
			})
		}
	}
	same(t, "what is stored", s.stored(), before)
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const form, object = "service=web&port=80", `{"service":"web","port":80}`
	before := s.stored()
	for _, media := range []string{"text/xml", "text/plain", "multipart/form-data; boundary=x", "application/octet-stream", "json", "/", "application/json; ="} {
		p := s.call(http.MethodPost, "/v1/register", strings.NewReader(object)).header("Content-Type", media).problem(http.StatusUnsupportedMediaType)
		if p.Type != "urn:rollcall:media-type" || !strings.Contains(p.Detail, media) || p.Want != "send a form (curl -d name=value) or application/json" {
			t.Errorf("%s: got %+v", media, p)
		}
	}
	same(t, "what is stored", s.stored(), before)
	status := http.StatusCreated
	for _, c := range []struct{ media, body string }{
		{"application/x-www-form-urlencoded", form},
		{"application/x-www-form-urlencoded; charset=utf-8", form},
		{"", form},
		{"application/x-www-form-urlencoded", "\n " + object + "\n"}, // as curl -d calls it
		{"", object},
		{"application/json", object},
		{"Application/JSON; charset=utf-8", object},
		{"application/vnd.rollcall+json", object},
	} {
		r := s.call(http.MethodPost, "/v1/register", strings.NewReader(c.body))
		if c.media != "" {
			r = r.header("Content-Type", c.media)
		}
		if got := decode[receipt](r.want(status)); got.ID != "web-10.0.0.7-80" {
			t.Errorf("%s: got %+v", c.media, got)
		}
		status = http.StatusOK
	}
}

func TestUnknownParameters(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "w1")
	before := s.stored()
	for _, c := range []struct{ method, path, takes string }{
		{http.MethodPost, "/v1/register", "wait"},
		{http.MethodGet, "/v1/instances/w1", ""},
		{http.MethodPatch, "/v1/instances/w1", "maintenance, weight, for"},
		{http.MethodPost, "/v1/instances/w1/heartbeat", "status, note"},
		{http.MethodPost, "/v1/instances/w1/drain", "hold, boot, keep"},
		{http.MethodDelete, "/v1/instances/w1", "boot"},
		{http.MethodGet, "/v1/services", ""},
		{http.MethodGet, "/v1/services/web", "state, wait"},
		{http.MethodGet, "/v1/services/web/pick", "by, key"},
		{http.MethodGet, "/v1/services/web/env", "alias, port, format"},
		{http.MethodGet, "/v1/env", "link, format"},
		{http.MethodGet, "/v1/events", "service, kind"},
		{http.MethodGet, "/v1/frontends", ""},
		{http.MethodGet, "/v1/explain", "host"},
		{http.MethodGet, "/v1/sd/prometheus", "service, state"},
		{http.MethodGet, "/v1/traefik", "entrypoint, tls, certresolver"},
		{http.MethodGet, "/v1/tls/ask", "domain, host"},
		{http.MethodPost, "/v1/jobs/probe/run", ""},
	} {
		p := s.call(c.method, c.path+"?nobody=1", nil).problem(http.StatusUnprocessableEntity)
		if c.takes == "" {
			c.takes = "none"
		}
		if p.Field != "nobody" || p.Want != "it has "+c.takes {
			t.Errorf("%s %s: got %+v", c.method, c.path, p)
		}
		p = s.call(c.method, c.path+"?a;b", nil).problem(http.StatusBadRequest)
		if p.Detail != "malformed query: invalid semicolon separator in query" {
			t.Errorf("%s %s: got %+v", c.method, c.path, p)
		}
	}
	same(t, "what is stored", s.stored(), before)
}

func TestBadParameters(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "w1")
	before := s.stored()
	const duration = "give a duration with its unit, such as 500ms, 2s or 1m"
	for _, c := range []struct{ path, want string }{
		{"/v1/register?wait=5", `wait is "5"; ` + duration},
		{"/v1/register?wait=-1s", "wait is -1s; give at least 0s"},
		{"/v1/register?wait=6m", "wait is 6m0s; give at most 5m"},
		{"/v1/register?wait=1s&wait=2s", "wait is given twice; give it once"},
		{"/v1/register?wait=1s&wait=", "wait is empty; give a value, or leave the field out"},
		{"/v1/register?service=web", "service is not a parameter of this call; it has wait"},
		{"/v1/instances/w1/drain?hold=x", `hold is "x"; ` + duration},
		{"/v1/instances/w1/drain?hold=-1ms", "hold is -1ms; give at least 0s"},
		{"/v1/instances/w1/drain?hold=301s", "hold is 5m1s; give at most 5m"},
		{"/v1/instances/w1/heartbeat?status=sick", `status is "sick"; give one of pass, fail`},
	} {
		p := s.form(http.MethodPost, c.path).problem(http.StatusUnprocessableEntity)
		if p.Detail != c.want || !strings.HasPrefix(c.want, p.Field+" ") {
			t.Errorf("%s:\n got %s: %s\nwant %s", c.path, p.Field, p.Detail, c.want)
		}
	}
	same(t, "what is stored", s.stored(), before)
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "host", "a.test", "id", "w1")
	before := s.stored()
	for _, c := range []struct {
		pairs []string
		want  string
	}{
		{[]string{"service", "db", "port", "81", "host", "A.test"}, "host a.test is served by the service web (w1 is starting); a vhost belongs to one service at a time: deregister its instances first (DELETE /v1/instances/w1), or choose another vhost"},
		{[]string{"service", "db", "port", "81", "id", "w1"}, "id belongs to an instance of the service web; give every instance an id of its own, or free this one with DELETE /v1/instances/w1"},
	} {
		p := s.form(http.MethodPost, "/v1/register", c.pairs...).problem(http.StatusConflict)
		if p.Detail != c.want || p.Type != "urn:rollcall:conflict" || !strings.HasPrefix(c.want, p.Field+" ") {
			t.Errorf("%q: got %+v, want %s", c.pairs, p, c.want)
		}
	}
	same(t, "what is stored", s.stored(), before)
}
