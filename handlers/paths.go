package handlers

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// advise adds the right path or the right methods to the problem of a request that no route serves.
func (p *problem) advise(c echo.Context) {
	r := c.Request()
	switch {
	case p.Type != "about:blank":
	case p.Status == http.StatusNotFound:
		if path := routedPath(c.Echo().Routes(), r.URL.Path); path != "" {
			p.Want = "call " + path
		}
	case p.Status == http.StatusMethodNotAllowed:
		allowed := c.Response().Header().Get(echo.HeaderAllow)
		p.Detail = r.Method + " is not a method of this path"
		if p.Want = "use " + strings.TrimPrefix(allowed, http.MethodOptions+", "); strings.Contains(p.Want, ",") {
			p.Want = strings.Replace(p.Want, "use", "use one of", 1)
		}
	}
}

// routedPath returns the path that a route serves and that differs from the given one by slashes at its end or by a
// missing /v1 only. It returns "" if there is none.
func routedPath(routes []*echo.Route, path string) string {
	trimmed := "/" + strings.Trim(path, "/")
	for _, candidate := range []string{"/v1" + trimmed, trimmed} {
		for _, route := range routes {
			if candidate != path && serves(route.Path, candidate) {
				return candidate
			}
		}
	}
	return ""
}

// serves reports whether the pattern of a route matches a path.
func serves(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i, segment := range want {
		if segment != got[i] && (got[i] == "" || !strings.HasPrefix(segment, ":")) {
			return false
		}
	}
	return true
}
