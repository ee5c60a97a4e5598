module github.com/minoots/minoots/bindings-go

go 1.24
