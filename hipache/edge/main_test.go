package edge_test

import (
	"testing"

	"go.uber.org/goleak"

	"rollcall/tests/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(redistest.Main(m)) }
