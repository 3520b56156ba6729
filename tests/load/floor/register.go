package main

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
)

//go:embed register.lua
var registerSource string

var registerScript = redis.NewScript(registerSource)

type registration struct {
	ID       string `json:"id"`
	Service  string `json:"service"`
	Address  string `json:"address"`
	Health   string `json:"health"`
	Interval string `json:"interval"`
}

// registrations keeps each with one script: run by itself, or by a runner that puts
// concurrent calls into one pipeline.
func registrations(rdb *redis.Client, runner redis.Scripter) http.Handler {
	e := router()
	e.POST("/v1/register", func(c echo.Context) error {
		var r registration
		if err := c.Bind(&r); err != nil {
			return err
		}
		if r.ID == "" || r.Service == "" || r.Address == "" {
			return echo.NewHTTPError(http.StatusUnprocessableEntity)
		}
		doc, err := json.Marshal(r)
		if err != nil {
			return err
		}
		keys := []string{"instance:" + r.ID, "service:" + r.Service, "due", "deadlines", "events"}
		isNew, err := registerScript.Run(c.Request().Context(), runner, keys, r.ID, doc, time.Now().UnixMilli()).Int()
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, map[string]any{"id": r.ID, "service": r.Service, "address": r.Address, "new": isNew == 1})
	})
	return e
}
