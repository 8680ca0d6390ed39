// Package settings has the settings of roles and databases that could affect lockstore, for
// tests under the worst of them.
package settings

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed settings.txt
var table string

// QueryModes are all query modes of pgx.
var QueryModes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

// A World is a set of settings that apply together.
type World struct {
	Name     string
	settings [][2]string // names and values
}

// Worlds returns the sets of settings.txt.
func Worlds() []World {
	worlds, _ := parse()
	return worlds
}

func parse() (worlds []World, harmless []string) {
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "["):
			worlds = append(worlds, World{Name: strings.Trim(line, "[]")})
		case strings.HasPrefix(line, "- "):
			_, names, _ := strings.Cut(line, ": ")
			harmless = append(harmless, strings.Fields(names)...)
		case line != "" && line[0] != '#':
			name, value, _ := strings.Cut(line, " = ")
			world := &worlds[len(worlds)-1]
			world.settings = append(world.settings, [2]string{name, value})
		}
	}
	return worlds, harmless
}

// Set applies a world to all later sessions of the pool's database. It ignores settings that
// this version of PostgreSQL does not have.
func (w World) Set(ctx context.Context, pool *pgxpool.Pool) error {
	for _, s := range w.settings {
		name, value := s[0], "'"+strings.ReplaceAll(s[1], "'", "''")+"'"
		if name == "search_path" { // a list of names
			value = s[1]
		}
		_, err := pool.Exec(ctx, fmt.Sprintf(`DO $do$ BEGIN
			IF EXISTS (SELECT FROM pg_settings WHERE lower(name) = lower('%s')) THEN
				EXECUTE format($sql$ALTER DATABASE %%I SET %s = %s$sql$, current_database());
			END IF; END $do$`, name, name, value), pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return fmt.Errorf("%s = %s: %w", name, value, err)
		}
	}
	pool.Reset()
	return nil
}
