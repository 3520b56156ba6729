package edge

import (
	"bytes"
	_ "embed"
	"errors"
	"html/template"
	"net/http"
	"strconv"

	"rollcall/hipache"
)

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

// page is a rendered error page. It names neither hosts nor backends.
type page struct {
	Code        int
	Title, Text string
	html        []byte
}

var (
	pageRequest    = newPage(400, "Bad request", "The request could not be read.")
	pageNoFrontend = newPage(400, "No such site", "There is no site of this name here.")
	pageMethod     = newPage(405, "Method not allowed", "This is not a forward proxy.")
	pageSlow       = newPage(408, "Request timeout", "The request took too long to arrive.")
	pageNoBackend  = newPage(502, "Site unavailable", "The site is known, but none of its servers answers. Please try again in a moment.")
	pageRedis      = newPage(503, "Temporarily unavailable", "Please try again in a few seconds.")
	pageTimedOut   = newPage(504, "No answer in time", "The site took too long to answer. Please try again in a moment.")
	pageLoop       = newPage(508, "Loop detected", "The site leads back to itself.")
)

// errorPages are the pages of the errors that have one of their own.
var errorPages = []struct {
	err  error
	page *page
}{
	{errNoHost, pageRequest},
	{errMalformed, pageRequest},
	{hipache.ErrNoFrontend, pageNoFrontend},
	{errMethod, pageMethod},
	{errRedisUnavailable, pageRedis},
	{errLoop, pageLoop},
}

func newPage(code int, title, text string) *page {
	p := &page{Code: code, Title: title, Text: text}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		panic(err) // the template is embedded
	}
	p.html = b.Bytes()
	return p
}

// fail answers a request that has no answer of a backend.
func (p *proxyRequest) fail(w http.ResponseWriter, r *http.Request, err error) {
	page := p.pageFor(err)
	if !p.logged && r.Context().Err() == nil {
		p.edge.opt.Log.DebugContext(r.Context(), "request failed", "host", r.Host, "status", page.Code, "err", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(page.html)))
	h.Set("Cache-Control", "no-cache")
	if page == pageRedis {
		h.Set("Retry-After", "5")
	}
	endConnection(h, r)
	if p.debug {
		p.debugHeaders(h)
		h.Set("X-Debug-Error", printable(err.Error()))
	}
	w.WriteHeader(page.Code)
	_, _ = w.Write(page.html)
}

func (p *proxyRequest) pageFor(err error) *page {
	if p.body.failed() {
		if p.body.late.Load() {
			return pageSlow
		}
		return pageRequest
	}
	for _, known := range errorPages {
		if errors.Is(err, known.err) {
			return known.page
		}
	}
	if timedOut(err) {
		return pageTimedOut
	}
	return pageNoBackend
}
