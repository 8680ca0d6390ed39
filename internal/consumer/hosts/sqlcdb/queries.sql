-- name: InsertUser :exec
INSERT INTO users (id, email) VALUES ($1, $2);

-- name: Email :one
SELECT email FROM users WHERE id = $1;
