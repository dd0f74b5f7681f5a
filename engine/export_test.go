package engine

// Fuse makes tr take the steps of fused training, whether its model has float32 masters or not.
func (tr *Trainer) Fuse() { tr.fused = true }
