package hipache_test

import (
	"testing"

	"rollcall/hipache"
)

func TestParseAnnouncement(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		payload string
		want    hipache.Announcement
	}{
		{"a.test;http://127.0.0.1:7449/;1;2", hipache.Announcement{Host: "a.test", URL: "http://127.0.0.1:7449/", Position: 1, Len: 2}},
		{"A.TEST;http://h:1;0;1", hipache.Announcement{Host: "A.TEST", URL: "http://h:1", Position: 0, Len: 1}},
		{"a.test;http://h/;b;c;0;2", hipache.Announcement{Host: "a.test", URL: "http://h/;b;c", Position: 0, Len: 2}},
		{";http://h:1;0;2", hipache.Announcement{URL: "http://h:1", Position: 0, Len: 2}},
	} {
		if got, ok := hipache.ParseAnnouncement(c.payload); !ok || got != c.want {
			t.Errorf("%q: got %+v, %t; want %+v", c.payload, got, ok, c.want)
		}
		if got := c.want.String(); got != c.payload {
			t.Errorf("got %q, want %q", got, c.payload)
		}
	}
}

func TestParseAnnouncementRefusesOtherPayloads(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		"", ";", ";;;", "a.test", "a.test;http://h:1", "a.test;http://h:1;0", "a.test;0;2", "a.test;;0;2",
		"a.test;http://h:1;x;2", "a.test;http://h:1;0;", "a.test;http://h:1;-1;2", "a.test;http://h:1;0;-2",
		"a.test;http://h:1;0.5;2", "a.test;http://h:1;0;99999999999999999999", `{"host":"a.test"}`,
	} {
		if got, ok := hipache.ParseAnnouncement(payload); ok {
			t.Errorf("%q: got %+v, want none", payload, got)
		}
	}
}

func FuzzParseAnnouncement(f *testing.F) {
	f.Add("a.test;http://127.0.0.1:7449/;1;2")
	f.Add("a;b;c;01;+2")
	f.Add(";;;;")
	f.Fuzz(func(t *testing.T, payload string) {
		a, ok := hipache.ParseAnnouncement(payload)
		if !ok {
			return
		}
		if a.Position < 0 || a.Len < 0 || a.URL == "" {
			t.Errorf("%q: got %+v", payload, a)
		}
		if b, ok := hipache.ParseAnnouncement(a.String()); !ok || b != a {
			t.Errorf("%q: got %+v, and %+v, %t from its payload", payload, a, b, ok)
		}
	})
}
