package main

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
	"github.com/robfig/cron/v3"
)

// program is the least service of this kind: a schedule that looks every second whether
// something is due, and an API that says whether Redis can be reached.
func program(ctx context.Context, rdb *redis.Client) http.Handler {
	c := cron.New()
	c.Schedule(cron.Every(time.Second), cron.FuncJob(func() {
		_ = rdb.ZRangeArgs(ctx, redis.ZRangeArgs{Key: "due", ByScore: true, Start: "-inf", Stop: time.Now().UnixMilli(), Count: 100}).Err()
	}))
	c.Start()
	e := router()
	e.GET("/readyz", func(c echo.Context) error {
		if err := rdb.Ping(c.Request().Context()).Err(); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	})
	return e
}
