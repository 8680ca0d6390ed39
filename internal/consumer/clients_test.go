package consumer

import (
	"database/sql"
	"os/exec"
	"testing"

	_ "github.com/lib/pq"

	"example.com/lockstore/pgtest"
)

func TestOtherClientsLogIn(t *testing.T) {
	url := pgtest.New(t).URL()
	t.Run("lib/pq", func(t *testing.T) {
		db, err := sql.Open("postgres", url)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.Ping(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("psql", func(t *testing.T) {
		psql, err := exec.LookPath("psql")
		if err != nil {
			t.Skip("it is not installed")
		}
		if out, err := exec.Command(psql, "-X", "-c", "SELECT", url).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
}
