package hipache_test

import (
	"net"
	"testing"

	"rollcall/hipache"
)

func TestTarget(t *testing.T) {
	t.Parallel()
	for entry, want := range map[string]string{
		"http://10.0.0.1:8080": "10.0.0.1:8080", "http://h": "h:80", "http://h:": "h:80", "HTTP://H:1/p?q#f": "H:1",
		"http://u:p@h:1": "h:1", " http://h:1/ ": "h:1", "http://[::1]:8080": "[::1]:8080", "http://[::1]": "[::1]:80",
		"": "", "h:1": "", "//h:1": "", "http:/h:1": "", "http:h:1": "", "http://": "", "http://:80": "", "https://h:1": "",
		"http://h:0": "", "http://h:65536": "", "http://h:-1": "", "http://h:1x": "", "http://h h:1": "", "http://[::1:80": "", "http://]": "", "http://h]:1": "",
	} {
		if got, ok := hipache.Target(entry); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %t; want %q", entry, got, ok, want)
		}
	}
}

func FuzzTarget(f *testing.F) {
	f.Add("http://u:p@[::1]:80/x?y#z")
	f.Fuzz(func(t *testing.T, entry string) {
		if hostport, ok := hipache.Target(entry); ok {
			if _, _, err := net.SplitHostPort(hostport); err != nil {
				t.Errorf("%q: %v", entry, err)
			}
		}
	})
}
