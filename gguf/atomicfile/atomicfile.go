// Package atomicfile writes files that are whole or absent.
//
// Write fills a temporary file in the directory of path, syncs it, renames it to path and
// syncs the directory. Until the rename path is as it was; after an error the temporary
// file is gone.
package atomicfile
