package drivers

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// outages are what clients meet instead of a server.
var outages = map[string]func(e *entrance, client net.Conn){
	"refused":           nil, // nobody listens
	"closed at once":    func(*entrance, net.Conn) {},
	"closed when asked": func(_ *entrance, client net.Conn) { _, _ = client.Read(make([]byte, 1)) },
	"reset": func(_ *entrance, client net.Conn) {
		_ = client.(*net.TCPConn).SetLinger(0)
	},
	"begins to answer": func(_ *entrance, client net.Conn) {
		_, _ = pgproto3.NewBackend(client, client).ReceiveStartupMessage()
		_, _ = client.Write([]byte{'R', 0})
	},
	"cannot fork": func(_ *entrance, client net.Conn) { // before it speaks the protocol
		_, _ = pgproto3.NewBackend(client, client).ReceiveStartupMessage()
		_, _ = client.Write([]byte("Ecould not fork new process for connection: Cannot allocate memory\n\x00"))
	},
	"starts up":            refusal("57P03"),
	"shuts down":           refusal("57P01"),
	"crashes":              refusal("57P02"),
	"too many clients":     refusal("53300"),
	"out of memory":        refusal("53200"),
	"a pooler's complaint": refusal("08P01"),
	"ends in mid-session": func(e *entrance, client net.Conn) {
		time.AfterFunc(10*time.Millisecond, func() { client.Close() })
		e.forward(client)
	},
}

// refusal is a server that refuses a connection.
func refusal(code string) func(*entrance, net.Conn) {
	return func(_ *entrance, client net.Conn) {
		b := pgproto3.NewBackend(client, client)
		_, _ = b.ReceiveStartupMessage()
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: "no"})
		_ = b.Flush()
	}
}

// An entrance leads clients to a server, or into an outage.
type entrance struct {
	t       *testing.T
	to      string
	address string

	mu       sync.Mutex
	listener net.Listener
	outage   func(*entrance, net.Conn)
	clients  []net.Conn
}

func newEntrance(t *testing.T, to *pgtest.Proxy) (e *entrance, through string) {
	u, err := url.Parse(to.URL())
	require.NoError(t, err)
	e = &entrance{t: t, to: u.Host, address: "127.0.0.1:0"}
	e.listen()
	e.address = e.listener.Addr().String()
	u.Host = e.address
	t.Cleanup(func() { e.listener.Close() })
	return e, u.String()
}

func (e *entrance) listen() {
	listener, err := net.Listen("tcp", e.address)
	require.NoError(e.t, err)
	e.listener = listener
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			e.mu.Lock()
			outage := e.outage
			e.clients = append(e.clients, client)
			e.mu.Unlock()
			go func() {
				defer client.Close()
				if outage != nil {
					outage(e, client)
				} else {
					e.forward(client)
				}
			}()
		}
	}()
}

func (e *entrance) forward(client net.Conn) {
	server, err := net.Dial("tcp", e.to)
	if err != nil {
		return
	}
	go func() {
		defer client.Close()
		_, _ = server.(*net.TCPConn).WriteTo(client)
	}()
	defer server.Close()
	_, _ = client.(*net.TCPConn).WriteTo(server)
}

// begin closes all connections. New ones meet the outage until end.
func (e *entrance) begin(outage func(*entrance, net.Conn)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.outage = outage
	if outage == nil {
		e.listener.Close()
	}
	for _, client := range e.clients {
		client.Close()
	}
	e.clients = nil
}

func (e *entrance) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.outage == nil {
		e.listen()
	}
	e.outage = nil
}

// failures counts what is logged.
type failures struct {
	slog.Handler
	n atomic.Int64
}

func (*failures) Enabled(context.Context, slog.Level) bool { return true }

func (f *failures) Handle(context.Context, slog.Record) error {
	f.n.Add(1)
	return nil
}

// A watcher outlasts each outage, whatever error the driver makes of it: one that began before
// the outage, and one that begins during it.
func TestWatchOutlastsOutages(t *testing.T) {
	opened := map[string]func(t *testing.T, url string, o *metadata.Options) (*metadata.Postgres, error){
		"pgx": func(t *testing.T, url string, o *metadata.Options) (*metadata.Postgres, error) {
			pool, err := pgxpool.New(t.Context(), url)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			return metadata.NewPostgres(pool, o)
		},
	}
	overSQL := maps.Clone(drivers)
	overSQL["pgx's stdlib"] = func(url string) (*sql.DB, error) { return sql.Open("pgx", url) }
	for name, open := range overSQL {
		opened[name] = func(t *testing.T, url string, o *metadata.Options) (*metadata.Postgres, error) {
			db, err := open(url)
			require.NoError(t, err)
			t.Cleanup(func() { db.Close() })
			return metadata.NewPostgres(db, o)
		}
	}
	for name, open := range opened {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			writer, err := metadata.NewPostgres(db.Pool(), nil)
			require.NoError(t, err)
			t.Cleanup(writer.Close)
			require.NoError(t, writer.Migrate(t.Context()))
			e, through := newEntrance(t, pgtest.NewProxy(t, db))
			failed := new(failures)
			store, err := open(t, through, &metadata.Options{WatchInterval: 20 * time.Millisecond, NoHints: true, Logger: slog.New(failed)})
			require.NoError(t, err)
			t.Cleanup(store.Close)
			for name, outage := range outages {
				n := 0
				write := func() {
					n++
					_, err := writer.Merge(t.Context(), name, json.RawMessage(`{}`))
					require.NoError(t, err)
					_, err = writer.Update(t.Context(), name, func(doc metadata.Document) (json.RawMessage, error) {
						return json.Marshal(map[string]int{"n": n})
					})
					require.NoError(t, err)
				}
				ctx, stop := context.WithCancelCause(t.Context())
				var group sync.WaitGroup
				follow := func() (reached func(int)) {
					told, ended := make(chan int, 100), make(chan error, 1)
					group.Go(func() {
						for doc, err := range store.Watch(ctx, name) {
							if err != nil {
								ended <- err
								return
							}
							var is struct{ N int }
							_ = json.Unmarshal(doc.Metadata, &is)
							told <- is.N
						}
					})
					return func(n int) {
						t.Helper()
						for deadline := time.After(10 * time.Second); ; {
							select {
							case is := <-told:
								if is == n {
									return
								}
							case err := <-ended:
								assert.NoError(t, err, name)
								return
							case <-deadline:
								assert.Fail(t, "nothing is told", "%s: %d", name, n)
								return
							}
						}
					}
				}
				write()
				before := follow()
				before(1)
				e.begin(outage)
				write()
				from := failed.n.Load()
				meanwhile := follow()
				assert.Eventually(t, func() bool { return failed.n.Load() >= from+3 || name == "ends in mid-session" }, 10*time.Second, time.Millisecond, name)
				e.end()
				before(2)
				meanwhile(2)
				stop(errors.New("enough seen"))
				group.Wait()
			}
		})
	}
}
