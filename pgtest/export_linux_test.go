package pgtest

var Children = children
