package storetest

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"rollcall/app"
)

// Full returns an instance with a value in each field that an unhealthy instance can have.
func Full() app.Instance {
	at := func(s int) time.Time { return time.UnixMilli(1_700_000_000_000).Add(time.Duration(s) * time.Second) }
	check := app.DefaultCheck(app.HTTP)
	check.Port, check.Path, check.Statuses, check.Body = 8081, "/healthz", "200-299,401", "fine"
	check.Host, check.Method = "health.test", "HEAD"
	check.TLS, check.SkipVerify, check.ServerName = true, true, "cert.test"
	check.GRPCService, check.Headers = "shop.Orders", "Authorization: Bearer t0ken\r\n"
	return app.Instance{
		Rev: 7, ID: "web-1", Service: "web", Address: "10.0.0.7:80", Hosts: []string{"a.test", "b.test"}, Weight: 3, FailOpen: true,
		Boot: "nonce", Replaces: "web-0", ReplaceOver: true, Tags: []string{"blue"}, Meta: map[string]string{"owner": "shop"},
		Check: check, Override: app.Override{Maintenance: true, Weight: 2, Until: at(900)},
		Claims: app.Claims{
			Rivals: []app.Rival{{Claimant: "other", At: at(1)}}, HeldAt: at(2), Peers: []app.Start{{ID: "web-2", Boot: "n2"}}, Moved: "10.0.0.6:80",
		},
		Unknown: `{"zone":"a"}`, State: app.Unhealthy, Streak: 1, StreakAt: at(3), Falls: 2,
		Last:         app.Result{At: at(4), Latency: 5 * time.Millisecond, Code: app.Refused, Detail: "nothing listens"},
		RegisteredAt: at(0), ChangedAt: at(5), AssertedAt: at(6),
	}
}

// Changed returns Full with another value in one field, for each field in turn, by its path
// (Check.Port). It panics at a field of a type that it does not know.
func Changed() iter.Seq2[string, app.Instance] {
	return func(yield func(string, app.Instance) bool) {
		for _, path := range leaves(reflect.TypeFor[app.Instance](), nil) {
			i := Full()
			change(reflect.ValueOf(&i).Elem().FieldByIndex(path))
			switch pathName(path) {
			case "Check.Headers":
				i.Check.Headers = "Authorization: Bearer another\r\n"
			case "Unknown":
				i.Unknown = `{"zone":"b"}`
			case "DrainPeriod":
				i.State = app.Draining // other states have none
			}
			if !yield(pathName(path), i) {
				return
			}
		}
	}
}

// FieldTag returns a tag of the last field on a path of Changed that has it.
func FieldTag(path, key string) (tag string) {
	t := reflect.TypeFor[app.Instance]()
	for name := range strings.SplitSeq(path, ".") {
		field, ok := t.FieldByName(name)
		if !ok {
			panic("storetest: no field " + path)
		}
		tag, t = cmp.Or(field.Tag.Get(key), tag), field.Type
	}
	return tag
}

// leaves lists the index paths of the fields of a struct and of the structs in it.
func leaves(t reflect.Type, at []int) (paths [][]int) {
	for n := range t.NumField() {
		path := append(slices.Clone(at), n)
		if f := t.Field(n).Type; f.Kind() == reflect.Struct && f != reflect.TypeFor[time.Time]() {
			paths = append(paths, leaves(f, path)...)
		} else {
			paths = append(paths, path)
		}
	}
	return paths
}

func pathName(path []int) (name string) {
	t := reflect.TypeFor[app.Instance]()
	for _, n := range path {
		if name != "" {
			name += "."
		}
		name += t.Field(n).Name
		t = t.Field(n).Type
	}
	return name
}

// change gives a value another value of its type.
func change(v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = x.Add(time.Second)
		return
	case *time.Duration:
		*x += time.Second
		return
	case *map[string]string:
		*x = maps.Clone(*x)
		(*x)["added"] = "x"
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint16:
		v.SetUint(v.Uint() + 1)
	case reflect.Slice:
		element := reflect.New(v.Type().Elem()).Elem()
		if element.Kind() == reflect.Struct {
			for _, field := range element.Fields() {
				change(field)
			}
		} else {
			change(element)
		}
		v.Set(reflect.Append(v.Slice3(0, v.Len(), v.Len()), element))
	default:
		panic(fmt.Sprintf("storetest: no other value of %s", v.Type()))
	}
}
