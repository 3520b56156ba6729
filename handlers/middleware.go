package handlers

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app/auth"
)

// measure calls served after every answer, including the answers to errors. served may be nil.
func measure(served func(method, route string, status int, took time.Duration)) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			began := time.Now()
			if err := next(c); err != nil {
				c.Error(err)
			}
			if served != nil {
				served(c.Request().Method, c.Path(), c.Response().Status, time.Since(began))
			}
			return nil
		}
	}
}

// guard bounds the body, turns a panic into an internal error that only the log describes, and refuses requests
// that a browser sends for a page of another site. While Rollcall listens on loopback only, a process on the same
// machine needs no token, and neither would such a page.
func guard(maxBody int64, tokens *auth.Tokens) echo.MiddlewareFunc {
	sites := http.NewCrossOriginProtection()
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
				}
			}()
			c.Request().Body = http.MaxBytesReader(c.Response().Writer, c.Request().Body, maxBody)
			if err := checkHost(c.Request(), tokens); err != nil {
				return err
			}
			if err := sites.Check(c.Request()); err != nil {
				return fmt.Errorf("%w: %w", errCrossOrigin, err)
			}
			return next(c)
		}
	}
}
