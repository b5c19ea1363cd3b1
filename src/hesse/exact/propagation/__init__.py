"""Down the graph: one sweep carries δ, S and D from the loss to the sites.

For a site with value z and input x: δ = ∂ℓ/∂z, the backpropagated gradient; S = ∂²ℓ/∂z∂z', the
backpropagated Hessian of two sites; D = ∂x/∂z', the forward Jacobian from one site to a later one.
"""
