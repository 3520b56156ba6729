package main

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
)

// reads answers with the value of "answer", which it reads from Redis once.
func reads(ctx context.Context, rdb *redis.Client) (http.Handler, error) {
	answer, err := rdb.Get(ctx, "answer").Bytes()
	if err != nil {
		return nil, err
	}
	answers := map[string][]byte{"ten": answer}
	e := router()
	e.GET("/v1/services/:name", func(c echo.Context) error {
		if answer, ok := answers[c.Param("name")]; ok {
			return c.Blob(http.StatusOK, echo.MIMEApplicationJSON, answer)
		}
		return echo.ErrNotFound
	})
	return e, nil
}
