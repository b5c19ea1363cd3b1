"""What each sample brings: its gradient, its diagonal and its blocks of the Hessian, and what it
predicts, differentiated.

    per_sample       the call, and the batches that it gives
    quantities       the three things that can be asked, and what each is held against
    gradients        a sample's gradient, from what its sites take in and get back
    contraction      a sample's diagonal and blocks, from what the sweep brings
    one_by_one       all three by differentiating one sample after another
"""
