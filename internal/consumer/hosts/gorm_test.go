package hosts

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// gormHost has gorm, whose model of a user has the host's own columns only.
type gormHost struct {
	db    *gorm.DB
	store *metadata.Postgres
}

type gormUser struct{ ID, Email string }

func (gormUser) TableName() string { return "users" }

func TestGorm(t *testing.T) {
	run(t, func(t *testing.T, db *pgtest.DB) (host, *metadata.Postgres, *lock.Postgres) {
		orm, err := gorm.Open(postgres.Open(db.URL()), &gorm.Config{Logger: logger.Discard})
		require.NoError(t, err)
		pool, err := orm.DB()
		require.NoError(t, err)
		t.Cleanup(func() { pool.Close() })
		store, err := metadata.NewPostgres(pool, users)
		require.NoError(t, err)
		locker, err := lock.NewPostgres(t.Context(), pool, nil)
		require.NoError(t, err)
		return gormHost{orm, store}, store, locker
	})
}

func (h gormHost) signUp(ctx context.Context, id, email string, meta json.RawMessage) error {
	return h.db.WithContext(ctx).Transaction(func(orm *gorm.DB) error {
		tx := orm.Statement.ConnPool // a *sql.Tx
		if err := lock.InTx(ctx, tx, lock.Name("email", email)); err != nil {
			return err
		}
		if err := orm.Create(&gormUser{id, email}).Error; err != nil {
			return err
		}
		_, err := h.store.In(tx).Merge(ctx, id, meta)
		return err
	})
}

func (h gormHost) email(ctx context.Context, id string) (string, error) {
	var user gormUser
	err := h.db.WithContext(ctx).First(&user, "id = ?", id).Error
	return user.Email, err
}
