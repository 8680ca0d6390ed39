DROP FUNCTION IF EXISTS {function}(jsonb, jsonb);
