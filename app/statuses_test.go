package app_test

import (
	"errors"
	"strings"
	"testing"

	"rollcall/app"
)

func TestStatusesAreReadFromListsRangesAndClasses(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]app.Statuses{
		"200":               "200",
		"100":               "100",
		"599":               "599",
		"200-399":           "200-399",
		"204-204":           "204",
		"200,204":           "200,204",
		"204, 200":          "200,204",
		"200 - 299":         "200-299",
		"200-299,401":       "200-299,401",
		"401,200-299,401":   "200-299,401",
		"2xx":               "200-299",
		"2XX,3xx":           "200-399",
		"2xx-4xx":           "200-499",
		"2xx,5xx":           "200-299,500-599",
		"200-204,202-206":   "200-206",
		"200-299,250":       "200-299",
		"200,201,202,204":   "200-202,204",
		"1xx,2xx,3xx,4xx,5": "",
		"200,":              "",
		"":                  "",
		"600":               "",
		"099":               "",
		"2x0":               "",
		"6xx":               "",
		"399-200":           "",
		"+20":               "",
		"200-299-399":       "",
	} {
		got, ok := app.ParseStatuses(given)
		if got != want || ok != (want != "") {
			t.Errorf("%q is %q, %t; want %q", given, got, ok, want)
		}
		if again, ok := app.ParseStatuses(string(got)); ok && again != got {
			t.Errorf("%q is %q when it is read again", got, again)
		}
	}
}

func TestStatusesContain(t *testing.T) {
	t.Parallel()
	for _, s := range []app.Statuses{"200", "200-299,401", "100-599", "204,301-302,599", ""} {
		for status := 99; status <= 600; status++ {
			want := false
			for part := range strings.SplitSeq(string(s), ",") {
				switch part {
				case "200-299":
					want = want || status/100 == 2
				case "301-302":
					want = want || status == 301 || status == 302
				case "100-599":
					want = want || status >= 100 && status <= 599
				case "200":
					want = want || status == 200
				case "204":
					want = want || status == 204
				case "401":
					want = want || status == 401
				case "599":
					want = want || status == 599
				}
			}
			if got := s.Contains(status); got != want {
				t.Errorf("%q contains %d: %t, want %t", s, status, got, want)
			}
		}
	}
}

func TestExpectTellsStatusesFromText(t *testing.T) {
	t.Parallel()
	check := func(expect string) (app.Check, error) {
		i, _, err := app.Registration{Service: "web", Address: "10.0.0.7:80", Health: "/", Expect: []string{expect}}.Instance()
		return i.Check, err
	}
	for given, want := range map[string]app.Statuses{"200,204": "200,204", "200-299,401": "200-299,401", "2xx,3xx": "200-399"} {
		if c, err := check(given); c.Statuses != want || c.Body != "" || err != nil {
			t.Errorf("expect %q is the statuses %q and the text %q, %v; want %q", given, c.Statuses, c.Body, err, want)
		}
	}
	for _, text := range []string{
		"ok", "OK", "status is UP", `{"ready":true}`, `{"status":200}`, "version 1.2.3", "200 items", "x", "-", "404 page", "UP 200", "a,b", "[]", "1.2.3", "100%", "[1]",
	} {
		c, err := check(text)
		if c.Body != text || c.Statuses != "200-399" || err != nil {
			t.Errorf("expect %q is the text %q and the statuses %q, %v", text, c.Body, c.Statuses, err)
		}
	}
	for _, neither := range []string{
		">=200", "<400", "!=500", ">= 200", "200|204", "200;204", "200 204", "200 or 204", "200 to 299", "200 OK", "200/204", "[200,204]", "200..299", "200…299",
		"200,,204", "200,", ",200", "200–299", "399-200", "200-", "-200", "2**", "2x", "2xxx", "20x", "99", "600", "2000", "20", "099", "6xx", "200-600", "{200}", "~200",
		"200,204,ok",
	} {
		_, err := check(neither)
		field, ok := errors.AsType[*app.FieldError](err)
		if !ok || field.Field != "expect" || !strings.Contains(field.Want, "200-299,401") {
			t.Errorf("expect %q: %v; want an error that shows the right forms", neither, err)
		}
	}
}
