package pgtest_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// assertSilent fails if a text contains the password in any encoding.
func assertSilent(t *testing.T, password, text string) {
	t.Helper()
	userinfo := strings.TrimPrefix(url.UserPassword("", password).String(), ":")
	for _, form := range []string{password, url.QueryEscape(password), url.PathEscape(password), userinfo} {
		assert.NotContains(t, text, form)
	}
}

func TestFailedTestShowsNoPassword(t *testing.T) {
	const pass = `s3/cr@t +%'q`
	host := pgtest.New(t, pgtest.Setting("listen_addresses", "127.0.0.1"))
	query(t, host, "CREATE ROLE app SUPERUSER LOGIN PASSWORD '"+strings.ReplaceAll(pass, "'", "''")+"'")
	cfg, err := pgx.ParseConfig(host.Server().URL())
	require.NoError(t, err)
	port := value[string](t, host, "SHOW port")
	userinfo, quoted := url.UserPassword("app", pass).String(), strings.ReplaceAll(pass, "'", `\'`)
	for form, dsn := range map[string]string{
		"none":                           "", // pgtest's own server
		"URL":                            "postgres://" + userinfo + "@127.0.0.1:" + port + "/postgres",
		"URL with parameters":            "postgresql:///postgres?user=app&host=127.0.0.1&port=" + port + "&password=" + url.PathEscape(pass),
		"URL with a name in disguise":    "postgres://app@127.0.0.1:" + port + "/postgres?pass%77ord=" + strings.ReplaceAll(url.PathEscape(pass), "@", "%40"),
		"URL of a socket":                "postgres://" + userinfo + "@/postgres?port=" + port + "&host=" + url.QueryEscape(cfg.Host),
		"keywords":                       "host=127.0.0.1 port=" + port + " user=app dbname=postgres password='" + quoted + "'",
		"keywords in another order":      "password = '" + quoted + "' user=app dbname=postgres host=127.0.0.1 port=" + port,
		"password in the environment":    "host=127.0.0.1 user=app dbname=postgres port=" + port,
		"password in the environment, 2": "postgres://app@127.0.0.1:" + port + "/postgres",
	} {
		t.Run(form, func(t *testing.T) {
			t.Setenv("PGTEST_KEEP", "1m")
			t.Setenv("PGTEST_DSN", dsn)
			if strings.HasPrefix(form, "password in") {
				t.Setenv("PGPASSWORD", pass)
			}
			s, err := pgtest.Start(t.Context())
			require.NoError(t, err)
			defer s.Close()
			secrets := []string{pass}
			f := fakeTest(t, func(f *fakeTB) {
				db, err := s.New(t.Context())
				require.NoError(t, err)
				if dsn == "" {
					cfg, err := pgx.ParseConfig(db.URL())
					require.NoError(t, err)
					secrets = append(secrets, cfg.Password)
				}
				_, err = db.Pool().Exec(t.Context(), "SELECT no_such_column")
				f.Errorf("%v", err)
				pgtest.Finish(f, db)
			})
			out := f.output.String()
			for _, secret := range secrets {
				assertSilent(t, secret, out)
			}
			match := keptURL.FindStringSubmatch(out)
			require.NotNil(t, match, out)
			kept, err := pgx.ParseConfig(match[1])
			require.NoError(t, err)
			assert.Contains(t, kept.Database, "kept_")
			if kept.Password == "" {
				kept.Password = pass // psql would ask for it
			}
			conn, err := pgx.ConnectConfig(t.Context(), kept)
			require.NoError(t, err)
			require.NoError(t, conn.Close(t.Context()))
			drop(t, s, kept.Database)
		})
	}
}

func TestErrorsShowNoPassword(t *testing.T) {
	const pass = "sesame"
	for _, dsn := range []string{
		"postgres://u:%zzsesame@127.0.0.1:1/db",
		"postgres://u:a@sesame@127.0.0.1:1/db",
		"postgres://u:sesame@a@127.0.0.1:1/db",
		"postgres://u:a/sesame@127.0.0.1:1/db",
		"postgres://u:1/sesame@127.0.0.1:1/db",
		"postgres://u:a?sesame@127.0.0.1:1/db",
		"postgres://u:a#sesame@127.0.0.1:1/db",
		"postgres://u:a:sesame@127.0.0.1:1/db",
		"postgres://u:a[sesame@127.0.0.1:1/db",
		"postgres://u:a\nsesame@127.0.0.1:1/db",
		"postgres://u:sesame@127.0.0.1:port/db",
		"postgres://u:sesame@[::1/db",
		"postgres://u:sesame@127.0.0.1:1/db",
		"postgres://u@127.0.0.1:1/db?password=sesame&sslmode=bogus",
		"postgres://u@127.0.0.1:1/db?pass%77ord=sesame&sslmode=bogus",
		"postgres://u@127.0.0.1:1/db?password=sesame&sslrootcert=/nonexistent",
		"postgres://u@127.0.0.1:1/db?sslmode=require&sslpassword=sesame&sslcert=/nonexistent&sslkey=/nonexistent",
		"postgres://u:sesame@127.0.0.1:1,127.0.0.1:x/db",
		"Postgres://u:sesame@127.0.0.1:1/db",
		"Postgres://u:sesame@127.0.0.1:1/db?sslmode=disable",
		"mysql://u:sesame@127.0.0.1:1/db?parse=true",
		"u:sesame@127.0.0.1:1/db",
		"//u:sesame@127.0.0.1:1/db?a=b",
		" postgres://u:sesame@127.0.0.1:1/db?a=b",
		"host=127.0.0.1 port=1 password='sesame",
		"host=127.0.0.1 port=1 password=a sesame",
		"host=127.0.0.1 port=1 password=a\tsesame",
		`host=127.0.0.1 port=1 password='a' sesame'`,
		"host=127.0.0.1 port=1 password='sesame' sslmode=bogus",
		"host=127.0.0.1 port=x password = 'sesame'",
		"host=127.0.0.1 port=1 PASSWORD=sesame",
		"host=127.0.0.1 port=1 password = sesame connect_timeout=x",
		"password:sesame",
		"sesame",
	} {
		t.Run("", func(t *testing.T) {
			t.Setenv("PGTEST_DSN", dsn)
			_, err := pgtest.Start(t.Context())
			require.Error(t, err)
			for _, verb := range []string{"%v", "%+v", "%q", "%#v"} {
				assertSilent(t, pass, fmt.Sprintf(verb, err))
			}
			assert.ErrorContains(t, err, "PGTEST_DSN")
			f := fakeTest(t, func(f *fakeTB) { pgtest.New(f) })
			assertSilent(t, pass, f.output.String())
		})
	}
}
