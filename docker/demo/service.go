package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
)

// service answers POST /entry: it appends the number to the list and returns the list.
type service struct {
	http.ServeMux
	name string
	list *list
	log  *slog.Logger
}

// entry is a line of the list.
type entry struct {
	Number  int    `json:"number"`
	Client  string `json:"client"`
	Service string `json:"service"`
}

func newService(c config, log *slog.Logger) *service {
	s := &service{name: c.name, list: newList(newFinder(c, "memcached", log)), log: log}
	s.HandleFunc("POST /entry", s.enter)
	return s
}

func (s *service) close() { s.list.close() }

func (s *service) enter(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.Atoi(r.PostFormValue("number"))
	if err != nil {
		http.Error(w, "number: "+err.Error(), http.StatusUnprocessableEntity)
		return
	}
	line, err := json.Marshal(entry{Number: number, Client: r.PostFormValue("client"), Service: s.name})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	lines, err := s.list.append(r.Context(), string(line))
	if err != nil {
		s.log.WarnContext(r.Context(), "the list is out of reach", "err", err)
		http.Error(w, "memcached: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	if last, err := strconv.Atoi(r.PostFormValue("last")); err == nil && last >= 0 && last < len(lines) {
		lines = lines[len(lines)-last:]
	}
	w.Header().Set("Content-Type", "application/json")
	writeList(w, lines)
}

// writeList writes the lines as one JSON array, one entry per line.
func writeList(w http.ResponseWriter, lines []string) {
	_, _ = fmt.Fprint(w, "[\n", strings.Join(lines, ",\n"), "\n]\n")
}
