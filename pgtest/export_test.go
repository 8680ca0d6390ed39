package pgtest

// Settle waits until what is made ahead is made and what is to be dropped is dropped.
func (s *Server) Settle() { s.work.Wait() }
