package pgdb_test

import (
	"database/sql/driver"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/pgtest"
)

// Connections of drivers that wrap another driver.
type (
	raw       struct{ *stdlib.Conn }
	traced    struct{ driver.Conn }
	unwrapped struct{ driver.Conn }
	opaque    struct{ *stdlib.Conn } // whose method Conn the field hides
	shows     struct{ inner driver.Conn }
	empty     struct{}
)

func (w raw) Raw() driver.Conn            { return w.Conn }
func (w traced) WrappedConn() driver.Conn { return w.Conn }
func (w unwrapped) Unwrap() driver.Conn   { return w.Conn }
func (w shows) Conn() driver.Conn         { return w.inner }
func (empty) Unwrap() driver.Conn         { return nil }

func TestConnectionIsUnwrapped(t *testing.T) {
	conn, err := pgtest.New(t).SQLX().Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.Raw(func(c any) error {
		inner := c.(*stdlib.Conn)
		for name, wrapped := range map[string]any{
			"itself": inner, "Raw": raw{inner}, "WrappedConn": traced{inner}, "Unwrap": unwrapped{inner}, "Conn": shows{inner},
			"several": traced{unwrapped{raw{inner}}},
		} {
			assert.Same(t, inner.Conn(), pgdb.Unwrap(wrapped), name)
		}
		itself := &struct{ traced }{}
		itself.traced.Conn = itself
		for name, wrapped := range map[string]any{
			"opaque": opaque{inner}, "nothing": nil, "nothing in it": empty{}, "itself": itself, "opaque in it": traced{opaque{inner}},
		} {
			assert.Nil(t, pgdb.Unwrap(wrapped), name)
		}
		return nil
	}))
}
