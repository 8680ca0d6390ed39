package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// keepTime returns how long the database of a failed test is kept; 0 is not at all.
func keepTime() (time.Duration, error) { return durationEnv("PGTEST_KEEP", 10*time.Minute) }

// finish closes a test's database. If the test failed, it logs the server's messages and
// keeps the database, so that somebody can look inside.
func finish(tb TB, db *DB) {
	tb.Helper()
	keep, err := keepTime()
	if err != nil {
		tb.Errorf("%v", err)
	}
	failed := tb.Failed()
	if failed {
		if lines := db.serverLog(); len(lines) > 0 {
			tb.Logf("pgtest: the server's log of this database:\n%s", strings.Join(lines, "\n"))
		}
	}
	s := db.server
	switch {
	case s.own != nil:
		err = s.Close()
	case failed && keep > 0:
		var kept *DB
		if kept, err = db.keep(tb.Name()); kept != nil {
			tb.Logf("pgtest: the database is kept for %v: %s", keep, kept.psql())
		}
	default:
		err = db.Close()
	}
	if err != nil {
		tb.Errorf("%v", err)
	}
}

// A failed test shows the end of the server's log.
const (
	maxLogLines = 50
	maxLog      = 1 << 26 // bytes to search
)

// serverLog returns the last lines that the server logged for this database, including
// continuation lines.
func (db *DB) serverLog() []string {
	if db.server.in == nil {
		return nil
	}
	in := db.server.in
	f, err := in.dir.file(logFile, os.O_RDONLY)
	if err != nil {
		return nil // the server and its log are gone
	}
	defer f.Close()
	if _, err := f.Seek(max(db.logFrom, in.logSize()-maxLog), io.SeekStart); err != nil {
		return nil
	}
	var lines []string
	ours, mark := false, "] "+db.name+": " // see log_line_prefix
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<24) // a statement can be long
	for scan.Scan() {
		line := scan.Text()
		if !strings.HasPrefix(line, "\t") {
			ours = strings.Contains(line, mark)
		}
		if ours {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-maxLogLines):]
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// keep closes the pools and renames the database. The new name contains the test and the
// time, and dropOrphans does not take it for one.
func (db *DB) keep(test string) (*DB, error) {
	leak := db.disconnect()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := db.server
	conn, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	defer s.put(conn)
	const evict = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1"
	if err := awaitUnused(ctx, conn, db.name); errors.Is(err, errInUse) {
		conn.Exec(ctx, evict, db.name) // failed tests often leave connections open
	}
	test = strings.Trim(notInNames.ReplaceAllString(strings.ToLower(test), "_"), "_")
	name := fmt.Sprintf("kept_%.28s_%d_%s", test, time.Now().Unix(), strings.TrimPrefix(db.name, "pgtest_"))
	if _, err := conn.Exec(ctx, "ALTER DATABASE "+db.name+" RENAME TO "+name); err != nil {
		return nil, errors.Join(leak, fmt.Errorf("pgtest: keep database %s: %w", db.name, err))
	}
	return s.database(name), leak
}

// psql returns the command that opens the database. It names the file with the password,
// or leaves psql to ask for it: passwords do not belong into a test's log.
func (db *DB) psql() string {
	program := "psql"
	cfg := db.cfg.ConnConfig
	query := url.Values{"host": {cfg.Host}, "port": {strconv.Itoa(int(cfg.Port))}}
	if in := db.server.in; in != nil {
		if path, err := exec.LookPath(filepath.Join(in.Bin, program)); err == nil {
			program = path
		}
		query.Set("sslmode", "disable")
		query.Set("passfile", filepath.Join(in.Dir, passFile))
	}
	address := url.URL{Scheme: "postgres", User: url.User(cfg.User), Path: "/" + db.name, RawQuery: encode(query)}
	return shellWord(program) + " " + shellWord(address.String())
}

// shellWord quotes a text for a shell, if necessary.
func shellWord(text string) string {
	if plain.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./+-]+$`)

// logSize returns the current size of the log.
func (in *instance) logSize() int64 {
	info, err := in.dir.root.Lstat(logFile)
	if err != nil {
		return 0
	}
	return info.Size()
}
